"""Low-rank adapters (LoRA), loaded beside their model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from sluice_worker.weights.errors import ModelNotUsable

#: The ranks that vLLM reserves room for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def lora_arguments(adapters: Mapping[str, Path]) -> dict[str, Any]:
    """The arguments that make room for these adapters. Raises ModelNotUsable."""
    if not adapters:
        return {}
    largest = max(_rank(name, path) for name, path in adapters.items())
    room = next((rank for rank in _RANKS if rank >= largest), None)
    if room is None:
        raise ModelNotUsable(f"LORA_MODULES: a rank of {largest} is more than vLLM can serve")
    # On CPU, vLLM 0.32 gives a row without an adapter, beside rows that have one, the adapter in
    # the last slot. One slot more than adapters stays empty, and an empty one changes nothing.
    slots = len(adapters) + current_platform.is_cpu()
    return {
        "enable_lora": True,
        "max_loras": slots,
        "max_cpu_loras": slots,
        "max_lora_rank": room,
    }


def lora_requests(adapters: Mapping[str, Path]) -> dict[str, LoRARequest]:
    """The name to vLLM of each adapter."""
    return {
        name: LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(path))
        for number, (name, path) in enumerate(adapters.items(), start=1)
    }


def _rank(name: str, path: Path) -> int:
    try:
        config = json.loads((path / "adapter_config.json").read_bytes())
        patterns = (config.get("rank_pattern") or {}).values()
        return max(int(rank) for rank in (config["r"], *patterns))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelNotUsable(
            f"LORA_MODULES: the adapter {name} has no adapter_config.json that can be read",
            str(error),
        ) from error
