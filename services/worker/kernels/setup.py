"""Compiles the kernels into the package, as plain libraries that ctypes loads.

There is one for each instruction set. They call nothing of Python, so they do for all its versions,
and no headers are needed.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))

from compiler import found

SOURCES = Path(__file__).parent / "sluice_kernels/src"
# Products and sums are fused where the source says so and nowhere else, whatever compiler it is.
FLAGS = [
    *("-std=c11", "-O3", "-ffp-contract=off"),
    *("-fPIC", "-shared", "-pthread", "-Wall", "-s"),
]
_AVX2 = ["-mavx2", "-mfma", "-mf16c"]
INSTRUCTION_SETS = {
    # Whatever the compiler is told to compile for otherwise (-march=native).
    "avx2": [*_AVX2, "-mno-avx512f"],
    "avx512": [*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
}
HAS_KERNELS = sys.platform == "linux" and platform.machine() == "x86_64"


class BuildWithKernels(build_py):
    """Adds the libraries to what is built; where kernels are not for, there are none."""

    def run(self) -> None:
        """Build the package, then compile."""
        super().run()
        if not HAS_KERNELS:
            return
        folder = SOURCES.parent if self.editable_mode else Path(self.build_lib) / "sluice_kernels"
        for name, flags in INSTRUCTION_SETS.items():
            compile_into(folder / f"libsluice_kernels_{name}.so", flags)


def compile_into(library: Path, flags: list[str]) -> None:
    """Compile a library; a running worker that has the old one keeps it."""
    compiler = found()
    if not compiler:
        sys.exit("no C compiler was found: install gcc or clang, or set CC")
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        sources = sorted(str(path) for path in SOURCES.glob("*.c"))
        command = [*compiler, *FLAGS, *flags, "-o", str(made), *sources, "-lm"]
        subprocess.run(command, check=True)  # noqa: S603 (the builder chooses the compiler)
        made.replace(library)


class PlatformWheel(bdist_wheel):
    """A wheel for any Python, but for this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tag."""
        _, _, system = super().get_tag()
        return ("py3", "none", system)


class WithLibrary(Distribution):
    """A package that holds something compiled."""

    def has_ext_modules(self) -> bool:
        """Whether it is for one platform."""
        return HAS_KERNELS


setup(
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel},
    distclass=WithLibrary,
)
