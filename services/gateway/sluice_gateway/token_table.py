"""What each token id stands for, in bytes and in text: computed once per model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


@dataclass(frozen=True, slots=True)
class DecodeScheme:
    """How a tokenizer's decoder makes text of tokens.

    ``bytes``: tokens are bytes in GPT-2's alphabet. ``pieces``: tokens are text in which
    ``space`` stands for a space; with ``byte_fallback``, ``<0xE4>`` is a byte. ``other``: only
    the tokenizer itself knows. ``strip`` leading spaces of the whole text go, and with
    ``strip_first`` each ``space`` of the first token, wherever in it.
    """

    kind: Literal["bytes", "pieces", "other"]
    space: str = ""
    byte_fallback: bool = False
    strip: int = 0
    strip_first: bool = False

    @classmethod
    def of(cls, decoder: Mapping[str, Any] | None) -> DecodeScheme:
        """The scheme of a ``decoder`` as it stands in tokenizer.json."""
        steps = _steps(decoder)
        names = [step.get("type") for step in steps]
        if names == ["ByteLevel"]:
            return cls("bytes")
        if names == ["Metaspace"]:
            scheme = steps[0].get("prepend_scheme")
            drops = scheme != "never" if scheme else steps[0].get("add_prefix_space", True)
            return cls("pieces", steps[0].get("replacement", "▁"), strip_first=bool(drops))
        if names[:3] == ["Replace", "ByteFallback", "Fuse"] and _is_space(steps[0]):
            space = steps[0]["pattern"]["String"]
            if names[3:] == []:
                return cls("pieces", space, byte_fallback=True)
            last = steps[3]
            if names[3:] == ["Strip"] and last.get("content") == " " and not last.get("stop"):
                return cls("pieces", space, byte_fallback=True, strip=int(last["start"]))
        return cls("other")


def _steps(decoder: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    if decoder is None:
        return []
    if decoder.get("type") == "Sequence":
        return list(decoder.get("decoders", []))
    return [decoder]


def _is_space(step: Mapping[str, Any]) -> bool:
    pattern = step.get("pattern")
    return isinstance(pattern, dict) and "String" in pattern and step.get("content") == " "


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: the character that stands for each byte.

    Printable bytes stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return alphabet


def token_bytes(token: str, scheme: DecodeScheme) -> bytes:
    """The bytes of a token of a ``bytes`` or ``pieces`` vocabulary."""
    if scheme.kind == "bytes":
        alphabet = byte_alphabet()
        try:
            return bytes([alphabet[char] for char in token])
        except KeyError:
            # As Hugging Face's decoder does: a token with any character from outside of the
            # alphabet, such as an added one, stands for itself.
            return token.encode()
    if scheme.byte_fallback:
        match = BYTE_TOKEN.match(token)
        if match:
            return bytes([int(match.group(1), 16)])
    return token.replace(scheme.space, " ").encode()


#: Of each token, by id: its text or None, and its bytes.
View = tuple[Sequence[str | None], Sequence[bytes]]


class TokenTable:
    """Bytes and text by token id.

    ``texts[id]`` is None where the token's bytes alone are no text; an id that no token has is
    empty.
    """

    __slots__ = ("_special", "_tokens", "_views", "raw", "scheme", "texts")

    def __init__(
        self, tokens: Sequence[str | None], special: frozenset[int], scheme: DecodeScheme
    ) -> None:
        self.scheme = scheme
        self._tokens = tokens if scheme.strip_first else ()
        self.raw = [b"" if token is None else token_bytes(token, scheme) for token in tokens]
        self.texts = [
            _text(token, raw, scheme) for token, raw in zip(tokens, self.raw, strict=True)
        ]
        self._special = special
        self._views: dict[frozenset[int], View] = {}
        self.view(frozenset())

    def view(self, shown: frozenset[int]) -> View:
        """Texts and bytes with the special tokens emptied but for those that are shown."""
        shown &= self._special
        found = self._views.get(shown)
        if found is None:  # two threads may both make it: they make the same
            texts, raw = list(self.texts), list(self.raw)
            for token_id in self._special - shown:
                texts[token_id], raw[token_id] = "", b""
            found = self._views[shown] = texts, raw
        return found

    def first_text(self, token_id: int) -> str:
        """The text of a token that is a text's first, of a scheme with ``strip_first``."""
        return (self._tokens[token_id] or "").replace(self.scheme.space, "")


def _text(token: str | None, raw: bytes, scheme: DecodeScheme) -> str | None:
    if token is None:
        return ""
    if scheme.byte_fallback and BYTE_TOKEN.match(token):
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
