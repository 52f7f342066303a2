"""Compiles the gateway's short way for tokens, where there is a compiler and Python's headers.

Without it the gateway does the same, interpreted, and says so when it starts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wno-deprecated-declarations", "-s"]


class BuildIfPossible(build_ext):
    """Compiles with CC or the machine's compiler, and what cannot be compiled is left out."""

    def run(self) -> None:
        """Compile, in the place of an old library, which is not to stay if there is to be none."""
        if self.inplace:
            for ext in self.extensions:
                Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Compile one file."""
        library = Path(self.get_ext_fullpath(ext.name))
        library.unlink(missing_ok=True)
        compiler, include = _compiler(), sysconfig.get_paths()["include"]
        if not compiler or not (Path(include) / "Python.h").is_file():
            self._leave_out(f"no {include}/Python.h" if compiler else "no C compiler")
            return
        library.parent.mkdir(parents=True, exist_ok=True)
        command = [*compiler, *FLAGS, f"-I{include}", "-o", str(library), *ext.sources]
        try:
            subprocess.run(command, check=True)  # noqa: S603 (the builder chooses the compiler)
        except (OSError, subprocess.CalledProcessError) as error:
            self._leave_out(str(error))

    def _leave_out(self, why: str) -> None:
        self.warn(f"the short way of tokens is not compiled, the gateway will be slower: {why}")


def _compiler() -> list[str]:
    if command := os.environ.get("CC"):
        return shlex.split(command)
    found = (path for name in ("cc", "gcc", "clang") if (path := shutil.which(name)))
    return [path] if (path := next(found, None)) else []


SOURCES = ["sluice_gateway/fast_path/_compiled.c"]
setup(
    ext_modules=[Extension("sluice_gateway.fast_path._compiled", SOURCES, optional=True)],
    cmdclass={"build_ext": BuildIfPossible},
)
