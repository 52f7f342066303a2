"""Which file of a model its tokenizer is made from."""

from __future__ import annotations

import re
from collections.abc import Collection

TEKKEN = "tekken.json"
VOCABULARIES = ("vocab.json", "vocab.txt")

#: The files that a tokenizer can be made from, the first that is there. The names of
#: sentencepiece's are those that transformers' classes give them; ``tokenizer.model`` may be
#: either sentencepiece's or tiktoken's.
_SOURCES = (
    re.compile(re.escape(TEKKEN)),
    re.compile(r"tokenizer\.model|tiktoken\.model|spiece\.model|sentencepiece(\.bpe)?\.model"),
    re.compile(r"[\w.-]+\.tiktoken"),
    re.compile("|".join(map(re.escape, VOCABULARIES))),
)


def source_of(names: Collection[str]) -> str | None:
    """The file among ``names`` that a tokenizer.json would be made from, if there is one."""
    for pattern in _SOURCES:
        found = sorted(filter(pattern.fullmatch, names))
        if found:
            return found[0]
    return None
