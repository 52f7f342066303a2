"""What sentencepiece does with a text, by the library or by its rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sluice_worker.tokenizer_formats.exactness import Original
from sluice_worker.tokenizer_formats.merges import merge
from sluice_worker.tokenizer_formats.sentencepiece_file import (
    Piece,
    PieceType,
    SentencePieceModel,
    with_dummy_prefix,
)

SPACE = "▁"


def original_of(data: bytes, model: SentencePieceModel, *, prefix: bool) -> Original:
    """The library itself, or its rule where it is not installed.

    ``prefix``: whether a text begins with a space of the tokenizer's own.
    """
    if find_spec("sentencepiece") is not None:
        return _Library(with_dummy_prefix(data, prefix))
    return _Rule(model, prefix=prefix)


class _Library:
    """The library that defines the format."""

    name = "sentencepiece"

    def __init__(self, data: bytes) -> None:
        # By name, since it is not in every image, nor known to the type checker there.
        library = import_module("sentencepiece")

        self._processor: Any = library.SentencePieceProcessor(model_proto=data)

    def encode(self, text: str) -> list[int]:
        """See Original."""
        return list(self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str | None:
        """See Original."""
        # A "⁇" for the unknown is the library's own, and spaces of the text go with the first.
        unknown = self._processor.unk_id() in ids
        return None if unknown else str(self._processor.decode(list(ids)))


class _Rule:
    """BPE, with no normalization but that of spaces."""

    name = "sentencepiece's merging by score"

    def __init__(self, model: SentencePieceModel, *, prefix: bool) -> None:
        self._ids = {piece.text: place for place, piece in enumerate(model.pieces)}
        self._rank = {
            piece.text: -piece.score for piece in model.of_type(PieceType.NORMAL).values()
        }
        self._unknown = next(iter(model.of_type(PieceType.UNKNOWN)))
        self._fallback = model.byte_fallback
        self._prefix = prefix
        self._trims = model.remove_extra_whitespaces
        self._bytes = [_bytes_of(piece) for piece in model.pieces]
        symbols = {piece.text for piece in model.of_type(PieceType.USER_DEFINED).values()}
        longest_first = sorted(map(re.escape, symbols), key=len, reverse=True)
        self._symbols = re.compile(f"({'|'.join(longest_first)})") if symbols else None

    def encode(self, text: str) -> list[int]:
        """See Original."""
        if self._trims:
            text = re.sub(" {2,}", " ", text.lstrip(" ").rstrip(f" {SPACE}"))
        if not text:
            return []
        text = SPACE * self._prefix + text.replace(" ", SPACE)
        stretches = self._symbols.split(text) if self._symbols else [text]
        ids: list[int] = []
        for place, stretch in enumerate(stretches):
            if place % 2:  # what the pattern caught
                ids.append(self._ids[stretch])
                continue
            for piece in merge(stretch, self._rank):
                self._append(ids, piece)
        return ids

    def _append(self, ids: list[int], piece: str) -> None:
        if piece in self._rank:
            ids.append(self._ids[piece])
        elif self._fallback:
            ids += [self._ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
        elif ids[-1:] != [self._unknown]:  # a run of unknown text is one token
            ids.append(self._unknown)

    def decode(self, ids: Sequence[int]) -> str | None:
        """See Original."""
        if self._unknown in ids:
            return None
        data = b"".join(self._bytes[token_id] for token_id in ids)
        text = data.decode(errors="replace")
        return text.lstrip(" ") if self._trims else text.removeprefix(" " * self._prefix)


def _bytes_of(piece: Piece) -> bytes:
    if piece.type == PieceType.BYTE:
        return bytes([int(piece.text[3:5], 16)])
    return piece.text.replace(SPACE, " ").encode()
