"""The vllm engine: continuous batching, paged attention and prefix caching by vLLM itself.

Its files map the contract to vLLM's ``AsyncLLM`` and back; nothing that vLLM does is done again.
vLLM is imported when a model is looked at or loaded, not by this package: it imports slowly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_worker.settings import Settings
from sluice_worker.weights.report import LoadReport

if TYPE_CHECKING:
    from sluice_worker.engines.base import Engine

__all__ = ["check_model", "load_engine"]


def load_engine(
    settings: Settings, model_dir: Path, report: LoadReport, adapters: Mapping[str, Path]
) -> Engine:
    """See EngineModule."""
    from sluice_worker.engines.vllm.environment import prepare_environment

    prepare_environment(settings)
    if settings.node_rank:
        from sluice_worker.engines.vllm.follower import follow

        follow(settings, model_dir, report, adapters)
    from sluice_worker.engines.vllm.loading import load

    return load(settings, model_dir, report, adapters)


def check_model(settings: Settings, config_dir: Path) -> str:
    """See EngineModule."""
    from sluice_worker.engines.vllm.environment import prepare_environment

    prepare_environment(settings)
    from sluice_worker.engines.vllm.arguments import engine_config

    config = engine_config(settings, config_dir, {})
    model = config.model_config
    return f"{', '.join(model.architectures)} in {str(model.dtype).removeprefix('torch.')}"
