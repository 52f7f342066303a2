"""The engines, by name. An engine's module is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from sluice_worker.engines.base import Engine
from sluice_worker.settings import EngineName, Settings

#: ``load(settings, model_dir, progress)`` of each engine. ``progress`` takes "warming" when
#: the weights are in memory and the first passes begin.
LoadEngine = Callable[[Settings, Path, Callable[[str], None]], Engine]

ENGINES: dict[EngineName, str] = {
    "hf": "sluice_worker.engines.hf_settings:load_engine",
    "fake": "sluice_worker.engines.fake:load_engine",
}


class EngineNotAvailable(Exception):
    """There is no such engine here; the message says what to do."""


def check_engine(name: EngineName) -> None:
    """Raise EngineNotAvailable when there is no engine of that name. Imports nothing."""
    if name not in ENGINES:
        raise EngineNotAvailable(
            f"ENGINE={name} is not part of this version of Sluice yet; "
            f"use {' or '.join(ENGINES)} with MODEL_DEVICE=cpu"
        )


def find_engine(name: EngineName) -> LoadEngine:
    """Import the loader of the engine ``name``. Raises EngineNotAvailable."""
    check_engine(name)
    module_name, _, attribute = ENGINES[name].partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise EngineNotAvailable(
            f"ENGINE={name} needs the Python package {error.name!r}, which is not installed"
        ) from error
    return cast("LoadEngine", getattr(module, attribute))
