"""Small tokenizers in the formats that have no tokenizer.json, made with the original libraries."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentencepiece
from sluice_worker.tokenizer_formats.byte_bpe import TEKKEN

# ruff: noqa: RUF001 - other scripts are what the corpus is for

CORPUS = """The quick brown fox jumps over the lazy dog, and the dog sleeps. 1234 times, 99.5%!
def main(argument: int) -> str:
    return f"{argument} is {argument + 1}"
Die Würde des Menschen ist unantastbar. Съешь ещё этих мягких булок. 你好世界，今天天气很好。
Hello hello HELLO   spaces   and\ttabs. It's what they'd said: we'll see, you've won.
"""
CHAT_TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def train_sentencepiece(**options: Any) -> bytes:
    """A model file, of the corpus; without normalization unless the options say otherwise."""
    generator = random.Random(7)
    words = CORPUS.split()
    lines = [" ".join(generator.choices(words, k=8)) for _ in range(300)]
    lines += ["a    b", "x" * 9] * 20
    file = io.BytesIO()
    given = {
        "model_type": "bpe",
        "vocab_size": 500,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "num_threads": 1,
        "minloglevel": 2,
        "hard_vocab_limit": False,
    } | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=file, **given
    )
    return file.getvalue()


def byte_ranks(tokens: int = 400) -> dict[bytes, int]:
    """Ranks as byte-pair training finds them: the most frequent pair, again and again."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [[bytes([byte]) for byte in f" {word}".encode()] for word in CORPUS.split()]
    words += [[b" "] * 8, [b"\n"] * 4, [b"a"] * 7]
    while len(ranks) < tokens:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        ranks.setdefault(left + right, len(ranks))
        for word in words:
            place = 0
            while place + 1 < len(word):
                if word[place] == left and word[place + 1] == right:
                    word[place : place + 2] = [left + right]
                place += 1
    return ranks


def tiktoken_file(ranks: Mapping[bytes, int]) -> bytes:
    """The lines of a .tiktoken file."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    return "".join(lines).encode()


def tekken_file(*, listed: bool = True, pattern: str = TEKKEN, spare: int = 10) -> dict[str, Any]:
    """A tekken.json with a few more ranks than it uses, as Mistral's have."""
    ranks = byte_ranks()
    special = 20 if listed else 30
    names = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>", "[TOOL_CALLS]")
    file: dict[str, Any] = {
        "config": {
            "pattern": pattern,
            "num_vocab_tokens": len(ranks),
            "default_vocab_size": len(ranks) - spare + special,
            "default_num_special_tokens": special,
            "version": "v11" if listed else "v3",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for token, rank in ranks.items()
        ],
    }
    if listed:
        file["special_tokens"] = [
            {"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)
        ]
    return file


def write(folder: Path, name: str, content: bytes | dict[str, Any], **config: Any) -> Path:
    """A model directory with that tokenizer; ``config`` is its tokenizer_config.json."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(data)
    model_type = config.pop("model_type", "llama")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
