"""``python -m bench.gguf_export MODEL_DIR FILE --type f16|q8_0``: a Llama as llama.cpp wants it.

For speed tests: no tokenizer is written, so the file takes and gives token ids only. Runs where
the peers are installed (.venv-peers).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found]  # of .venv-peers
import numpy as np
from safetensors.numpy import load_file

TYPES = ("f16", "q8_0")
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}

Array = np.ndarray[Any, np.dtype[Any]]


def gguf_name(name: str) -> str:
    """The name of a transformers tensor in a GGUF file. Raises KeyError for what Llama lacks."""
    if name in _OUTER:
        return _OUTER[name]
    layer, _, inner = name.removeprefix("model.layers.").partition(".")
    return f"blk.{int(layer)}.{_INNER[inner]}"


def interleave_halves(weight: Array, heads: int) -> Array:
    """The rows of a query or key projection in llama.cpp's order.

    Transformers rotates dimension i of a head with i + half of them, llama.cpp each even
    dimension with the next odd one.
    """
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def export(model_dir: Path, file: Path, kind: str) -> None:
    """Write the Llama in ``model_dir``; matrices as ``kind``, vectors as float32."""
    config = json.loads((model_dir / "config.json").read_bytes())
    writer = gguf.GGUFWriter(file, "llama")
    _write_shape(writer, config, kind)
    for name, weight in _tensors(model_dir, config):
        if weight.ndim == 1:
            writer.add_tensor(name, weight.astype(np.float32))
        elif kind == "q8_0":
            q8_0 = gguf.GGMLQuantizationType.Q8_0
            data = gguf.quants.quantize(weight.astype(np.float32), q8_0)
            writer.add_tensor(name, data, raw_dtype=q8_0)
        else:
            writer.add_tensor(name, weight.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: dict[str, Any], kind: str) -> None:
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    file_types = gguf.LlamaFileType
    writer.add_file_type(file_types.MOSTLY_F16 if kind == "f16" else file_types.MOSTLY_Q8_0)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def _tensors(model_dir: Path, config: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    for file in sorted(model_dir.glob("*.safetensors")):
        for name, weight in load_file(file).items():
            if name.endswith("q_proj.weight"):
                weight = interleave_halves(weight, heads)
            elif name.endswith("k_proj.weight"):
                weight = interleave_halves(weight, kv_heads)
            yield gguf_name(name), weight


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", choices=TYPES, default="f16")
    given = parser.parse_args()
    export(given.model_dir, given.file, given.type)


if __name__ == "__main__":
    main()
