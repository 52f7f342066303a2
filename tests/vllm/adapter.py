"""A tiny adapter (LoRA) for the demo model, and the demo model with it merged in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RANK = 4
ALPHA = 16
TARGETS = ("q_proj", "v_proj")


def write_adapter(model: Path, folder: Path, seed: int) -> Path:
    """An adapter with random weights, as PEFT writes it."""
    weights = load_file(model / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    pairs: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if any(f".{target}." in name for target in TARGETS):
            stem = "base_model.model." + name.removesuffix(".weight")
            rows, columns = weight.shape
            pairs[f"{stem}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator) * 0.25
            pairs[f"{stem}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator) * 0.25
    folder.mkdir(parents=True)
    save_file(pairs, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "sluice-demo",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merge(model: Path, adapter: Path, folder: Path) -> Path:
    """The model with the adapter's product added to its weights: W + alpha / r * B A."""
    shutil.copytree(model, folder)
    weights = load_file(model / "model.safetensors")
    pairs = load_file(adapter / "adapter_model.safetensors")
    merged = {name: weight.float() for name, weight in weights.items()}
    for name in pairs:
        if name.endswith("lora_A.weight"):
            stem = name.removesuffix(".lora_A.weight")
            product = pairs[f"{stem}.lora_B.weight"] @ pairs[name]
            merged[stem.removeprefix("base_model.model.") + ".weight"] += ALPHA / RANK * product
    save_file(merged, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
