"""Tokenizers of every kind, trained on the spot, and models made of them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sluice_gateway.model import ModelInfo, ServedModel
from sluice_gateway.tokenizer import Tokenizer
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as RawTokenizer

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "hello world, hello there; how are you today?",
    "naïve café über straße 你好 世界 🙂 done",
    "def main():\n    return 'text' + 1\n",
] * 10

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _byte_level(*, odd: bool = False) -> RawTokenizer:
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.add_special_tokens(["<\uff5cend\u2581of\uff5c>", "<|im_start|>x"])
    raw.add_tokens(["<think>", "</think>", "你x"])
    if odd:
        raw.add_special_tokens([AddedToken("<|wide|>", rstrip=True, special=True)])
        # Hugging Face's decoder reads it as the byte E9, although it was added as a character.
        raw.add_tokens(["é"])
    return raw


def _sentence_piece(*, strip: bool) -> RawTokenizer:
    """As Llama 2 (strip) or Gemma: BPE over pieces, unknown characters as bytes."""
    raw = RawTokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps: list[Any] = [normalizers.Prepend("▁")] if strip else []
    raw.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    ends: list[Any] = [decoders.Strip(" ", 1, 0)] if strip else []
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *ends]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=["<unk>", "<s>", "</s>", *bytes_]
    )
    raw.train_from_iterator([line for line in CORPUS if line.isascii()], trainer)
    spec = json.loads(raw.to_str())
    spec["added_tokens"] = [one for one in spec["added_tokens"] if one["content"] not in bytes_]
    raw = RawTokenizer.from_str(json.dumps(spec))
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return raw


def _unigram(scheme: str) -> RawTokenizer:
    raw = RawTokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    raw.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.add_tokens(["▁▁a", "b▁c", " d "])
    return raw


def _word_piece() -> RawTokenizer:
    raw = RawTokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, show_progress=False, special_tokens=["[UNK]", "[CLS]", "[SEP]"]
    )
    raw.train_from_iterator(CORPUS, trainer)
    return raw


def _suffixed() -> RawTokenizer:
    """As the first GPT: the end of a word is part of its last token."""
    raw = RawTokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        show_progress=False,
        special_tokens=["<unk>", "<s>"],
        end_of_word_suffix="</w>",
    )
    raw.train_from_iterator(CORPUS, trainer)
    return raw


def _normalized() -> RawTokenizer:
    """Its special tokens are found in whatever spelling normalizes to them."""
    raw = RawTokenizer(models.BPE())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s"), "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.add_special_tokens([AddedToken("<end>", normalized=True, special=True)])
    return raw


_MAKERS = {
    "byte_level": _byte_level,
    "odd": lambda: _byte_level(odd=True),
    "llama": lambda: _sentence_piece(strip=True),
    "gemma": lambda: _sentence_piece(strip=False),
    "unigram_always": lambda: _unigram("always"),
    "unigram_first": lambda: _unigram("first"),
    "unigram_never": lambda: _unigram("never"),
    "word_piece": _word_piece,
    "suffixed": _suffixed,
    "normalized": _normalized,
}
KINDS = sorted(_MAKERS)


@cache
def raw_tokenizer(kind: str) -> RawTokenizer:
    return _MAKERS[kind]()


def token_id(kind: str, token: str) -> int:
    """The id of a token that is in the vocabulary."""
    found = raw_tokenizer(kind).token_to_id(token)
    assert found is not None
    return found


@cache
def files_of(kind: str, template: str | None = CHATML, **config: Any) -> dict[str, bytes]:
    settings = {key: value for key, value in {**config, "chat_template": template}.items() if value}
    return {
        "tokenizer.json": raw_tokenizer(kind).to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


@cache
def tokenizer(kind: str) -> Tokenizer:
    return Tokenizer.from_files(files_of(kind))


@cache
def model(
    kind: str = "byte_level",
    template: str | None = CHATML,
    max_model_len: int = 1000,
    vocab_size: int | None = None,
    **config: Any,
) -> ServedModel:
    files = files_of(kind, template, **config)
    size = vocab_size or raw_tokenizer(kind).get_vocab_size()
    eos = raw_tokenizer(kind).token_to_id("<|im_end|>")
    info = ModelInfo(
        "demo", max_model_len, size, fingerprint="fp", eos_token_ids=(eos,) if eos else ()
    )
    return ServedModel.build(info, files)
