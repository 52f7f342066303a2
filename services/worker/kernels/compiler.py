"""Finds a C compiler: the one of CC, the machine's own, or ziglang's, a wheel with clang in it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys

_NAMES = ("cc", "gcc", "clang")


def found() -> list[str]:
    """The command of a compiler that is here; empty if there is none."""
    if command := os.environ.get("CC"):
        return shlex.split(command)
    for name in _NAMES:
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        # It would compile for this very processor otherwise.
        return [sys.executable, "-m", "ziglang", "cc", "-mcpu=x86_64"]
    return []
