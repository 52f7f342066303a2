"""Mistral's tekken.json: ranks, the pattern and the special tokens in one file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from sluice_worker.tokenizer_formats.assembly import Converted
from sluice_worker.tokenizer_formats.byte_bpe import ByteBpe
from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.errors import not_convertible

#: The special tokens of the first versions, whose files do not list them.
_FIRST = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
)  # fmt: skip
_FIRST_VERSIONS = ("v1", "v2", "v3", "v7")
_NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def convert(path: Path, config: TokenizerConfig) -> Converted:
    """Convert the file. Raises TokenizerMissing."""
    try:
        described = json.loads(path.read_bytes())
        special = _special(described)
        bpe = _bpe(described, len(special))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise not_convertible(
            path.name, f"it is damaged or of an unknown kind ({type(error).__name__}: {error})"
        ) from error
    added = {place: _token(text) for place, text in enumerate(special)} | dict(config.added)
    tokenizer = bpe.tokenizer(added, path.name)
    names = {name: text for name, text in _NAMED.items() if text in special}
    bos = config.content("bos_token") if "bos_token" in config.values else names.get("bos_token")
    # Mistral's models are trained with it before every text.
    begin = [bos] if bos and config.flag("add_bos_token", default=True) else []
    original = bpe.original(tokenizer, path.name)
    return Converted(
        path.name, tokenizer, original, added, names, bpe.probes(), begin, config=config
    )


def _special(described: Mapping[str, Any]) -> list[str]:
    """The special tokens' texts by id: those in the file, and fillers up to the number of them."""
    config = described["config"]
    listed = described.get("special_tokens")
    if listed is None:
        if config.get("version") not in _FIRST_VERSIONS:
            raise ValueError("it lists no special tokens")
        texts = list(_FIRST)
    else:
        texts = [token["token_str"] for token in sorted(listed, key=lambda token: token["rank"])]
        if sorted(token["rank"] for token in listed) != list(range(len(listed))):
            raise ValueError("the ranks of the special tokens have gaps")
    number = int(config["default_num_special_tokens"])
    texts += [f"<SPECIAL_{place}>" for place in range(len(texts), number)]
    if len(texts) != number or len(set(texts)) != number:
        raise ValueError("its number of special tokens is another than it says")
    return texts


def _bpe(described: Mapping[str, Any], special: int) -> ByteBpe:
    """The ranks; the file has more than the model uses."""
    config = described["config"]
    used: Sequence[Mapping[str, Any]] = described["vocab"][: config["default_vocab_size"] - special]
    ranks = {base64.b64decode(token["token_bytes"]): place for place, token in enumerate(used)}
    in_order = all(token["rank"] == place for place, token in enumerate(used))
    if not in_order or len(ranks) != config["default_vocab_size"] - special:
        raise ValueError("its ranks have gaps or duplicates")
    if not isinstance(config["pattern"], str):
        raise TypeError("its pattern is no text")
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError("a byte has no token")
    return ByteBpe(ranks, config["pattern"], offset=special)


def _token(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)
