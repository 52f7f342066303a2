"""The engines, by name. An engine's module is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from sluice_worker.engines.base import Engine
from sluice_worker.settings import EngineName, Settings
from sluice_worker.weights.report import LoadReport

ENGINES: dict[EngineName, str] = {
    "hf": "sluice_worker.engines.hf_settings",
    "vllm": "sluice_worker.engines.vllm",
    "fake": "sluice_worker.engines.fake",
}


_MADE_OF: dict[EngineName, str] = {"hf": "torch", "vllm": "vllm"}


class EngineModule(Protocol):
    """What the module of an engine has."""

    def load_engine(
        self,
        settings: Settings,
        model_dir: Path,
        report: LoadReport,
        adapters: Mapping[str, Path],
    ) -> Engine:
        """Load a model and its adapters, by name. Blocking; raises ModelNotUsable.

        Tells how far it has read the weights, and when the first passes through them begin
        (``WORKER_STATE_WARMING``).
        """

    def check_model(self, settings: Settings, config_dir: Path) -> str:
        """Whether the engine can serve the model whose config files are in ``config_dir``.

        Returns what it is, for humans. Raises ModelNotUsable.
        """


class EngineNotAvailable(Exception):
    """There is no such engine here; the message says what to do."""


def check_engine(name: EngineName) -> None:
    """Raise EngineNotAvailable when what the engine is made of is not there. Imports nothing."""
    package = _MADE_OF.get(name)
    if package and find_spec(package) is None:
        raise EngineNotAvailable(
            f"ENGINE={name} needs the Python package {package!r}, which is not installed here: use "
            "the image that has it, or install it beside the worker"
        )


def find_engine(name: EngineName) -> EngineModule:
    """Import the engine ``name``. Raises EngineNotAvailable."""
    check_engine(name)
    try:
        return cast("EngineModule", import_module(ENGINES[name]))
    except ModuleNotFoundError as error:
        raise EngineNotAvailable(
            f"ENGINE={name} needs the Python package {error.name!r}, which is not installed"
        ) from error
