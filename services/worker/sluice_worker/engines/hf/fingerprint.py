"""A name for the numbers that a loaded model computes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.paths import Path

_VERSION = 2  # count up when a change here changes what is computed


def fingerprint(config: Any, checkpoint: Checkpoint, path: Path, tile: int, draws: str) -> str:
    """Changes when the config, the weights, how they are kept or who computes changes.

    ``draws``: what draws the tokens.
    """
    parts = {
        "version": _VERSION,
        "config": config.to_json_string(use_diff=False),
        "weights": checkpoint.identity(),
        "kernel": path.kernel,
        "path": path.name,
        "draws": draws,
        "tile": tile,
        "torch": torch.__version__,
        "cpu": path.cpu,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"hf-{path.kernel}-{path.name}-{digest[:24]}"
