"""A name for the numbers that a loaded model computes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from sluice_worker.engines.hf.checkpoint import Checkpoint

_VERSION = 2  # count up when a change here changes what is computed


def fingerprint(
    config: Any, checkpoint: Checkpoint, kernel: str, path: str, tile: int, *, any_cpu: bool
) -> str:
    """Changes when the config, the weights, how they are kept or who computes changes.

    ``any_cpu``: whether the same numbers come out whatever instructions the CPU has.
    """
    parts = {
        "version": _VERSION,
        "config": config.to_json_string(use_diff=False),
        "weights": checkpoint.identity(),
        "kernel": kernel,
        "path": path,
        "tile": tile,
        "torch": torch.__version__,
        "cpu": "any" if any_cpu else torch.backends.cpu.get_cpu_capability(),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"hf-{kernel}-{path}-{digest[:24]}"
