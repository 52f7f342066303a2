"""A random model of the 135M-parameter Llama shape, made on the spot."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def unless(model: Path | None) -> Iterator[Path]:
    """The directory of ``model``, or if it is None of a random one, which is removed afterwards."""
    if model:
        yield model
        return
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch))
        yield Path(scratch)


def make(directory: Path, *, layers: int = 30, dtype: str = "float16") -> None:
    """Write config and weights (about 270 MB in float16) to ``directory``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))  # type: ignore[no-untyped-call]
    model.save_pretrained(directory)
