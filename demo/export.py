"""Write a trained model as a Hugging Face directory."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaForCausalLM

from demo.chatml import SEPARATOR

TURN_END = "<|im_end|>"
CONTEXT = 2048
#: A client that names no temperature gets these: a model this small rambles at 1.
SAMPLING = {"do_sample": True, "temperature": 0.3, "top_p": 0.9}
_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def export(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Write weights in float16, configuration, tokenizer and chat template to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    ends = [tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(SEPARATOR)]
    stored: Any = copy.deepcopy(model)
    stored.half()
    stored.config.eos_token_id = ends[0]
    stored.config.pad_token_id = ends[1]
    stored.generation_config = GenerationConfig.from_dict(
        {"eos_token_id": ends, "pad_token_id": ends[1], **SAMPLING}
    )
    stored.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    _write_tokenizer(tokenizer, directory)


def _write_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Written by hand: what `save_pretrained` writes changes from release to release."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    names = {"eos_token": TURN_END, "pad_token": SEPARATOR}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "bos_token": None,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": template,
    }
    for name, content in (("tokenizer_config", config), ("special_tokens_map", names)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")
