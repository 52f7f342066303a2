"""A name for the numbers that a model in vLLM computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm.config import VllmConfig

_VERSION = 1  # count up when a change here changes what is computed
_SAMPLES = 16
_SAMPLE_BYTES = 4096


def fingerprint(
    config: VllmConfig,
    version: str,
    arguments: Sequence[str],
    model_dir: Path,
    adapter: Path | None = None,
) -> str:
    """Changes when weights, vLLM, how it computes or the adapter change.

    ``arguments`` are those of the operator's own: any may change the numbers.
    """
    model, parallel = config.model_config, config.parallel_config
    described = json.loads(model.hf_config.to_json_string(use_diff=False))
    described.pop("_name_or_path", None)  # where a model lies changes nothing
    parts: dict[str, Any] = {
        "version": _VERSION,
        "vllm": version,
        "config": described,
        "arguments": list(arguments),
        "dtype": str(model.dtype),
        "quantization": model.quantization,
        "parallel": [parallel.tensor_parallel_size, parallel.pipeline_parallel_size],
        "weights": _identity(model_dir),
        "adapter": _identity(adapter) if adapter else None,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"vllm-{version}-{str(model.dtype).removeprefix('torch.')}-{digest[:24]}"


def _identity(folder: Path) -> str:
    """A hash of the weight files' names and sizes and of a sample of their bytes."""
    digest = hashlib.sha256()
    if (folder / "adapter_config.json").is_file():
        digest.update((folder / "adapter_config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for number in range(_SAMPLES + 1):
                file.seek(max(0, size - _SAMPLE_BYTES) * number // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
