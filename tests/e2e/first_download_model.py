"""A Llama of a size that takes a while to download, with the demo's tokenizer."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

DEMO = Path(str(files("sluice_worker") / "demo_model"))


def write_model(folder: Path, hidden: int = 576, layers: int = 3) -> Path:
    """Random weights in float16: some 30 MB by default. Takes two seconds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3072,
        hidden_size=hidden,
        intermediate_size=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        dtype="float16",
    )
    LlamaForCausalLM(config).half().save_pretrained(folder)
    for path in DEMO.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special")):
            shutil.copy(path, folder)
    return folder
