"""Compiles the kernels into the package, as a plain library that ctypes loads.

It calls nothing of Python, so one library does for all its versions, and no headers are needed.
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
    *("-std=c11", "-O3", "-mavx2", "-mfma", "-mf16c", "-ffp-contract=off"),
    *("-fPIC", "-shared", "-pthread", "-Wall", "-s"),
]
HAS_KERNELS = sys.platform == "linux" and platform.machine() == "x86_64"


class BuildWithKernels(build_py):
    """Adds the library to what is built; where kernels are not for, there is none."""

    def run(self) -> None:
        """Build the package, then compile."""
        super().run()
        if not HAS_KERNELS:
            return
        folder = SOURCES.parent if self.editable_mode else Path(self.build_lib) / "sluice_kernels"
        compile_into(folder / "libsluice_kernels.so")


def compile_into(library: Path) -> None:
    """Compile the library; a running worker that has the old one keeps it."""
    compiler = found()
    if not compiler:
        sys.exit("no C compiler was found: install gcc or clang, or set CC")
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        sources = sorted(str(path) for path in SOURCES.glob("*.c"))
        command = [*compiler, *FLAGS, "-o", str(made), *sources, "-lm"]
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
