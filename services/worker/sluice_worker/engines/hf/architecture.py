"""Decides which path can run a model: our own, transformers' code, or one row at a time.

A model takes a faster path only if everything in its config is known to be computed
there; whatever is unknown goes to the next path, and at last to a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.options import ModelLoadError

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_STATIC_ROPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class DecoderShape:
    """A model of the Llama shape."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    norm_eps: float
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norms: bool
    inverse_frequencies: torch.Tensor
    rope_scale: float


class NotThisPath(Exception):
    """Why a model cannot take a path; the message is for the log."""


def check_servable(config: Any) -> None:
    """Raise ModelLoadError for what no path can serve."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelLoadError(
            f"{config.model_type} is an encoder-decoder model",
            "the hf engine serves decoder-only models",
        )
    if getattr(config, "quantization_config", None):
        method = _quantization_method(config.quantization_config)
        raise ModelLoadError(
            f"the checkpoint is quantized ({method}), which the hf engine cannot compute",
            "use the model's float16, bfloat16 or float32 checkpoint, or the vllm engine",
        )
    classes = list(getattr(config, "architectures", None) or [])
    if classes and not any(is_generator(name) for name in classes):
        raise ModelLoadError(
            f"{classes[0]} does not generate text", "use a model with a causal language head"
        )


def is_generator(class_name: str) -> bool:
    """Whether a model class of that name has a language head."""
    return class_name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def decoder_shape(config: Any, checkpoint: Checkpoint, max_model_len: int) -> DecoderShape:
    """The shape for our own path. Raises NotThisPath if the model is not wholly of it."""
    kind = config.model_type
    if kind not in _CLASSES or (config.architectures or [""])[0] != _CLASSES[kind]:
        raise NotThisPath(f"{kind} is not of the Llama shape")
    _demand(getattr(config, "auto_map", None) is None, "the model brings its own code")
    _demand(config.hidden_act == "silu", f"activation {config.hidden_act}")
    _demand(_window(config) >= max_model_len, "a sliding window below max_model_len")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    _demand(head_dim % 2 == 0, "an odd head dimension")
    _demand(config.num_attention_heads % config.num_key_value_heads == 0, "uneven head groups")
    frequencies, scale = _rope(config, head_dim, max_model_len)
    biased = bool(getattr(config, "attention_bias", False)) and kind in ("llama", "qwen3")
    return DecoderShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        intermediate=config.intermediate_size,
        vocab=checkpoint.shape("model.embed_tokens.weight")[0],
        norm_eps=config.rms_norm_eps,
        qkv_bias=biased or kind == "qwen2",
        output_bias=biased,
        mlp_bias=bool(getattr(config, "mlp_bias", False)) and kind == "llama",
        head_norms=kind == "qwen3",
        inverse_frequencies=frequencies,
        rope_scale=scale,
    )


def _window(config: Any) -> float:
    """How far back every layer sees."""
    types = getattr(config, "layer_types", None)
    if types is not None and all(kind == "full_attention" for kind in types):
        return float("inf")
    if types is not None and not set(types) <= {"full_attention", "sliding_attention"}:
        return 0
    window = getattr(config, "sliding_window", None)
    if types is None and not getattr(config, "use_sliding_window", True):
        window = None
    return float("inf") if window is None else int(window)


def _rope(config: Any, head_dim: int, max_model_len: int) -> tuple[torch.Tensor, float]:
    """Inverse frequencies and scale of the rotary embedding, as transformers has them."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = dict(getattr(config, "rope_parameters", None) or {})
    kind = rope.get("rope_type", "default")
    _demand(rope.get("partial_rotary_factor", 1.0) == 1.0, "a partial rotary embedding")
    if kind == "dynamic":
        # Below the trained length, dynamic scaling leaves the frequencies alone.
        within = max_model_len <= config.max_position_embeddings
        _demand(within, "dynamic rope beyond the trained length")
        kind = "default"
    _demand(kind in _STATIC_ROPES, f"rope type {kind}")
    _demand("rope_theta" in rope, "no rope_theta")
    if kind == "default":
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim
        return 1.0 / (rope["rope_theta"] ** exponents), 1.0
    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    _demand(len(frequencies) == head_dim // 2, "rotary and head dimensions that differ")
    return frequencies.float(), float(scale)


def _demand(holds: bool, reason: str) -> None:
    if not holds:
        raise NotThisPath(reason)


def _quantization_method(quantization: Any) -> str:
    if isinstance(quantization, dict):
        return str(quantization.get("quant_method", "unknown"))
    return str(getattr(quantization, "quant_method", "unknown"))
