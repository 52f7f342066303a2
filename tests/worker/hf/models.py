"""Small random models, and what transformers' own ``generate`` makes of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch

VOCAB = 256
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "initializer_range": 0.2,
}
_GQA = {"num_key_value_heads": 2}
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_GQA, "tie_word_embeddings": False}),
    "llama-tied": ("llama", {**_GQA, "tie_word_embeddings": True, "num_attention_heads": 8,
                             "head_dim": 16, "attention_bias": True, "mlp_bias": True}),
    "llama-group4": ("llama", {"num_key_value_heads": 1, "head_dim": 64}),
    "llama-wide": ("llama", {**_GQA, "intermediate_size": 1536}),
    "llama3-rope": ("llama", {**_GQA, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    "yarn-rope": ("llama", {**_GQA, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 128}}),
    "linear-rope": ("llama", {**_GQA, "rope_parameters": {
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "dynamic-rope": ("llama", {**_GQA, "rope_parameters": {
        "rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}}),
    "mistral": ("mistral", {**_GQA, "sliding_window": 4096, "head_dim": 32}),
    "mistral-window": ("mistral", {**_GQA, "sliding_window": 48}),
    "qwen2": ("qwen2", _GQA),
    "qwen2-window": ("qwen2", {**_GQA, "use_sliding_window": True, "sliding_window": 48,
                               "max_window_layers": 1}),
    "qwen3": ("qwen3", {**_GQA, "head_dim": 32}),
    "gelu-llama": ("llama", {**_GQA, "hidden_act": "gelu"}),
    "gpt2": ("gpt2", {"n_positions": 512}),
    "gpt2-wide": ("gpt2", {"n_positions": 512, "n_inner": 1536}),
    "gpt_neox": ("gpt_neox", {}),
    "phi": ("phi", _GQA),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", _GQA),
    "granite": ("granite", {**_GQA, "logits_scaling": 3.0, "attention_multiplier": 0.2}),
    "starcoder2": ("starcoder2", {**_GQA, "sliding_window": None}),
    "gemma2": ("gemma2", {**_GQA, "head_dim": 16, "sliding_window": 48}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
}  # fmt: skip


def build(kind: str, **changes: Any) -> Any:
    """A model with random weights, the same at every call."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, special = _KINDS[kind]
    config = AutoConfig.for_model(model_type, **{**_COMMON, **special, **changes})
    torch.manual_seed(len(kind))
    model = AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():  # biases and norms that do something
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn(weight.shape)
            elif "embed" not in name and "wte" not in name:
                weight += 0.02 * torch.randn(weight.shape)
    return model


def save(model: Any, directory: Path, **config: Any) -> Path:
    """Save as safetensors; ``config`` overrides fields of config.json."""
    model.save_pretrained(directory)
    if config:
        path = directory / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return directory


def round_to_half(model: Any, half: torch.dtype = torch.float16) -> Any:
    """The same model with matrices rounded to 16 bits, computing in float32."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(weight.to(half).float())
    return model


def round_to_int8(model: Any) -> Any:
    """The same model with the weights of int8, computing in float32: nothing else is rounded."""
    from transformers.pytorch_utils import Conv1D

    def rounded(weight: torch.Tensor, outputs: int) -> torch.nn.Parameter:
        scales = weight.abs().amax(1 - outputs, keepdim=True) / 127
        return torch.nn.Parameter((weight / scales).nan_to_num().round() * scales)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight = torch.nn.Parameter(module.weight.half().float())
            elif isinstance(module, torch.nn.Linear):  # one that was the embedding is not any more
                module.weight = rounded(module.weight, 0)
            elif isinstance(module, Conv1D):
                module.weight = rounded(module.weight, 1)
    return model


class Reference:
    """transformers' greedy continuation of prompts, remembered."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._continue = functools.cache(self._generate)

    def greedy(self, prompt: list[int], tokens: int) -> list[int]:
        """Up to ``tokens`` tokens, the end-of-sequence token included."""
        return self._continue(tuple(prompt), tokens)

    def logits(self, tokens: list[int]) -> torch.Tensor:
        """Logits after every token, [tokens, vocab]."""
        with torch.inference_mode():
            result: torch.Tensor = self.model(torch.tensor([tokens])).logits[0].float()
        return result

    def _generate(self, prompt: tuple[int, ...], tokens: int) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )
        result: list[int] = out[0, len(prompt) :].tolist()
        return result


def prompts(count: int, seed: int = 0, longest: int = 150) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(2, VOCAB, (n,), generator=generator).tolist() for n in lengths]
