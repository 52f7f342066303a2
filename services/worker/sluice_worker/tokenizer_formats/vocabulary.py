"""Vocabularies in plain files (vocab.json with merges.txt, vocab.txt), which transformers reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tokenizers import Tokenizer

from sluice_worker.tokenizer_formats import probe
from sluice_worker.tokenizer_formats.errors import not_convertible

#: Its classes that need nothing but these files. To it, they and their tokenizer.json are one and
#: the same; any other class is code of its own, or a stand-in for code that is not there.
_BYTE_LEVEL = ("GPT2Tokenizer", "Qwen2Tokenizer", "CodeGenTokenizer")
_CLASSES = (*_BYTE_LEVEL, "BertTokenizer")
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def convert(model_dir: Path, source: str) -> dict[str, bytes]:
    """The tokenizer's files as transformers saves them. Raises TokenizerMissing."""
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            model_dir, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises many kinds, for many missing pieces
        raise not_convertible(
            source, f"transformers cannot read what the model has ({type(error).__name__})"
        ) from error
    kind = type(tokenizer).__name__
    if kind.removesuffix("Fast") not in _CLASSES:
        raise not_convertible(source, f"nothing is known of its class, {kind}")
    if kind.removesuffix("Fast") in _BYTE_LEVEL:
        _require_round_trips(tokenizer.backend_tokenizer, source)
    with tempfile.TemporaryDirectory(prefix="sluice-tokenizer-") as folder:
        tokenizer.save_pretrained(folder)
        saved = [path for name in _FILES if (path := Path(folder) / name).is_file()]
        return {path.name: path.read_bytes() for path in saved}


def _require_round_trips(tokenizer: Tokenizer, source: str) -> None:
    """A vocabulary of bytes gives each text back, but for what its normalizer changes."""
    normalizer = tokenizer.normalizer
    for text in probe.TEXTS:
        wanted = normalizer.normalize_str(text) if normalizer else text
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(ids, skip_special_tokens=False) not in {wanted, f" {wanted}"}:
            raise not_convertible(source, f"the result does not give {text[:40]!r} back")
