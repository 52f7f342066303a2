"""Which files of a repository are an adapter (LoRA)."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub_file import HubFile

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def select_adapter(files: Iterable[HubFile]) -> list[HubFile]:
    """The files of an adapter. Raises ModelNotUsable when there is none, or only a pickled one."""
    by_name = {file.name: file for file in files}
    missing = [name for name in (CONFIG, WEIGHTS) if name not in by_name]
    if missing:
        raise ModelNotUsable(
            f"the repository has no {' and no '.join(missing)}, so it holds no adapter that can be "
            "served"
        )
    return [by_name[CONFIG], by_name[WEIGHTS]]
