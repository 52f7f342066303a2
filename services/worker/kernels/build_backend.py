"""setuptools' build backend, with a C compiler brought along where the machine has none."""

from __future__ import annotations

import platform
import sys
from typing import Any

from compiler import found
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - a build backend is a module of these functions

_COMPILER = "ziglang==0.17.1"


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What has to be installed to build a wheel."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What has to be installed for an editable installation."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler()]


def _compiler() -> list[str]:
    wanted = sys.platform == "linux" and platform.machine() == "x86_64" and not found()
    return [_COMPILER] if wanted else []
