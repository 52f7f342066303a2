"""tiktoken's files: a line for each token, its bytes in base64 and its rank.

The file has neither the pattern that cuts a text before nor the special tokens: those are in the
code that loads it. So only files are converted whose code is known.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken

from sluice_worker.tokenizer_formats.assembly import Converted
from sluice_worker.tokenizer_formats.byte_bpe import SINGLE_DIGITS, TRIPLE_DIGITS, ByteBpe
from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.errors import not_convertible

_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s")


@dataclass(frozen=True, slots=True)
class _Family:
    """What the code of a family of models has beside the ranks.

    ``special``: the tokens after the last rank; empty where the model's config lists them.
    ``begin``: what encoding puts before a text; ``bos_token`` stands for that token.
    """

    pattern: str
    nfc: bool = False
    special: tuple[str, ...] = ()
    begin: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()


_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))
#: By the class that a model's config names, or else its type.
_FAMILIES: Mapping[str, _Family] = {
    "QWenTokenizer": _Family(
        SINGLE_DIGITS, nfc=True, special=_QWEN, names=(("eos_token", "<|endoftext|>"),)
    ),
    "ChatGLM4Tokenizer": _Family(TRIPLE_DIGITS, begin=("[gMASK]", "<sop>")),
    "llama": _Family(TRIPLE_DIGITS, begin=("bos_token",)),
}


def is_tiktoken(path: Path) -> bool:
    """Whether the file is a list of ranks, whatever its name is."""
    with path.open("rb") as file:
        return _LINE.match(file.read(1000)) is not None


def convert(path: Path, config: TokenizerConfig) -> Converted:
    """Convert the file. Raises TokenizerMissing."""
    family = _FAMILIES.get(config.tokenizer_class) or _FAMILIES.get(config.model_type)
    if family is None:
        raise not_convertible(
            path.name,
            "it holds tiktoken's ranks only, and how this model cuts a text before and what its "
            "special tokens are is in code of its own",
        )
    bpe = ByteBpe(_ranks(path), family.pattern, nfc=family.nfc)
    last = max(bpe.ranks.values())
    added = {last + 1 + place: _token(text) for place, text in enumerate(family.special)}
    added |= dict(config.added)
    if not added:
        raise not_convertible(path.name, "no file of the model lists its special tokens")
    tokenizer = bpe.tokenizer(added, path.name)
    names = dict(family.names)
    begin = [config.content(text) if text == "bos_token" else text for text in family.begin]
    return Converted(
        path.name,
        tokenizer,
        bpe.original(tokenizer, path.name),
        added,
        names,
        bpe.probes(),
        [text for text in begin if text],
        config=config,
    )


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        lines = [line.split() for line in path.read_bytes().splitlines() if line]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    except ValueError as error:
        raise not_convertible(path.name, "it is damaged: a line has no rank") from error
    whole = sorted(ranks.values()) == list(range(len(lines)))
    if not whole or any(bytes([byte]) not in ranks for byte in range(256)):
        raise not_convertible(path.name, "it is damaged: tokens or ranks are missing or double")
    return ranks


def _token(text: str) -> AddedToken:
    return AddedToken(text, special=True, normalized=False)
