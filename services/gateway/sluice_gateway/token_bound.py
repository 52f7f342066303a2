"""A lower bound of the tokens that a text needs, to refuse what is far too long unread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice_gateway.token_table import byte_alphabet

# Canonical composition turns at most so many characters into one (as in U+1F82).
COMPOSED = 4
# Normalizers that never make a text shorter.
KEEPING = {None, "Prepend", "ByteLevel", "NFD", "NFKD", "Lowercase"}
COMPOSING = {"NFC", "NFKC"}
# Pre-tokenizers that cut a text but drop nothing of it.
CUTTING = {None, "ByteLevel", "Metaspace", "Digits"}


@dataclass(frozen=True, slots=True)
class TokenBound:
    """``per_token``: the most characters of text that one token can stand for.

    ``longest``: the characters of the longest token in the vocabulary. ``per_token`` is None
    where no bound is certain: a normalizer that deletes, unknown text that is fused into
    one token, an added token that swallows whitespace.
    """

    per_token: int | None
    longest: int = 1

    @classmethod
    def of(cls, spec: Mapping[str, Any], tokens: Sequence[str | None]) -> TokenBound:
        """Read it from tokenizer.json. ``tokens``: the whole vocabulary."""
        shrink = _shrink(_parts(spec.get("normalizer"), "normalizers"))
        known = _knows_every_text(spec, frozenset(token for token in tokens if token))
        swallows = any(
            token.get("lstrip") or token.get("rstrip") for token in spec.get("added_tokens", [])
        )
        longest = max((len(token) for token in tokens if token), default=1)
        if not shrink or not known or swallows:
            return cls(None, longest)
        return cls(shrink * longest, longest)

    def least(self, text: str) -> int:
        """A number of tokens that the text cannot be encoded in fewer than."""
        return -(-len(text) // self.per_token) if self.per_token else 0


def _parts(part: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    return list(part.get(key, [])) if part.get("type") == "Sequence" else [part]


def _shrink(normalizers: Sequence[Mapping[str, Any]]) -> int:
    """How many characters may become one; 0 if there is no saying."""
    shrink = 1
    for part in normalizers:
        kind = part.get("type")
        if kind in COMPOSING:
            shrink = COMPOSED
        elif kind == "Replace":
            pattern = part.get("pattern", {}).get("String")
            if pattern is None or len(pattern) > len(part.get("content", "")):
                return 0
        elif kind not in KEEPING:
            return 0
    return shrink


def _knows_every_text(spec: Mapping[str, Any], tokens: frozenset[str]) -> bool:
    """Whether each character of a text is in a token that stands for it, and none is dropped."""
    model = spec.get("model", {})
    steps = _parts(spec.get("pre_tokenizer"), "pretokenizers")
    cuts = all(
        step.get("type") in CUTTING
        or (step.get("type") in {"Split", "Punctuation"} and step.get("behavior") != "Removed")
        for step in steps
    )
    if model.get("type") not in {"BPE", None} or not cuts:
        return False
    if any(step.get("type") == "ByteLevel" for step in steps):
        return all(char in tokens for char in byte_alphabet())
    fallback = all(f"<0x{byte:02X}>" in tokens for byte in range(256))
    return bool(model.get("byte_fallback")) and fallback
