"""Incremental detokenization: token ids in, text out, equal to decoding them all at once."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Callable, Sequence
from typing import Protocol

# Decoding again and again a window in which no text comes is quadratic: beyond this many tokens
# the text goes out as it is.
WINDOW_MAX = 64


class Detokenizer(Protocol):
    """Turns token ids into text, piece by piece."""

    @property
    def texts(self) -> Sequence[str | None] | None:
        """By token id, its text, where a token always has the same; None in it: not always."""

    @property
    def settled(self) -> bool:
        """Whether nothing is held back, so that the next token's text is that of ``texts``."""

    def feed(self, token_ids: Sequence[int]) -> str:
        """The text that is certain now. Half a character is held back."""

    def flush(self) -> str:
        """What was held back, incomplete characters replaced by U+FFFD."""


class ByteDetokenizer:
    """For byte-level BPE: a token is a string of bytes, and the text is their UTF-8.

    ``texts[id]`` is the token's text where its bytes are whole characters, else None; ``raw[id]``
    is its bytes. Hidden tokens are empty in both.
    """

    __slots__ = ("_pending", "_raw", "texts")

    def __init__(self, texts: Sequence[str | None], raw: Sequence[bytes]) -> None:
        self.texts = texts
        self._raw = raw
        self._pending = b""

    @property
    def settled(self) -> bool:
        """See Detokenizer."""
        return not self._pending

    def feed(self, token_ids: Sequence[int]) -> str:
        """See Detokenizer."""
        if len(token_ids) == 1 and not self._pending:
            try:
                text = self.texts[token_ids[0]]
            except IndexError:  # the logits may be wider than the vocabulary
                return ""
            if text is not None:
                return text
        return self._feed_bytes(token_ids)

    def flush(self) -> str:
        """See Detokenizer."""
        text = utf_8_decode(self._pending, "replace", True)[0]
        self._pending = b""
        return text

    def _feed_bytes(self, token_ids: Sequence[int]) -> str:
        raw, size = self._raw, len(self._raw)
        data = self._pending + b"".join([raw[i] for i in token_ids if i < size])
        text, used = utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        return text


class PieceDetokenizer:
    """For SentencePiece vocabularies: a token is a piece of text or, ``<0xE4>``, one byte.

    ``texts[id]`` is None for a byte token, whose byte is ``raw[id]``; hidden tokens are "". A run
    of byte tokens is text only as a whole (Hugging Face's ByteFallback: if the run is not valid
    UTF-8, each of its bytes is a U+FFFD), so it is held back until it ends.
    """

    __slots__ = ("_first_text", "_raw", "_run", "_strip", "texts")

    def __init__(
        self,
        texts: Sequence[str | None],
        raw: Sequence[bytes],
        *,
        strip: int = 0,
        first_text: Callable[[int], str] | None = None,
    ) -> None:
        """Begin a text.

        ``strip``: so many of its leading spaces go. ``first_text``: the text of the token that
        comes first, where it has another there (the Metaspace decoder).
        """
        self.texts = texts
        self._raw = raw
        self._run = b""
        self._strip = strip
        self._first_text = first_text

    @property
    def settled(self) -> bool:
        """See Detokenizer."""
        return not (self._run or self._strip or self._first_text)

    def feed(self, token_ids: Sequence[int]) -> str:
        """See Detokenizer."""
        if len(token_ids) == 1 and self.settled:
            try:
                text = self.texts[token_ids[0]]
            except IndexError:
                return ""
            if text is not None:
                return text
        return "".join([self._feed_one(token_id) for token_id in token_ids])

    def flush(self) -> str:
        """See Detokenizer."""
        return self._trim(self._end_run())

    def _feed_one(self, token_id: int) -> str:
        if token_id >= len(self.texts):
            return ""
        text = self.texts[token_id]
        if text is None:
            self._run += self._raw[token_id]
            return ""
        if not text:
            return ""
        if self._first_text is not None:
            text, self._first_text = self._first_text(token_id), None
        return self._trim(self._end_run() + text)

    def _end_run(self) -> str:
        run, self._run = self._run, b""
        if not run:
            return ""
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(run)

    def _trim(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
                break
            text = text[1:]
            self._strip -= 1
        return text


class WindowDetokenizer:
    """For any other decoder: decode a short window twice, with and without its last tokens.

    The method of Hugging Face's text-generation-inference. Their DecodeStream does the same in
    Rust but raises "Invalid prefix" when a decoder changes text it had given before.
    """

    __slots__ = ("_decode", "_hidden", "_prefix", "_read", "_window", "settled", "texts")

    def __init__(
        self, decode: Callable[[Sequence[int]], str], hidden: frozenset[int] = frozenset()
    ) -> None:
        self._decode = decode
        self._hidden = hidden
        self.texts = None
        self.settled = False
        self._window: list[int] = []
        self._read = 0  # tokens of the window whose text has been given
        self._prefix = ""  # their text

    def feed(self, token_ids: Sequence[int]) -> str:
        """See Detokenizer."""
        return "".join([self._feed_one(token_id) for token_id in token_ids])

    def flush(self) -> str:
        """See Detokenizer."""
        text = self._decode(self._window)[len(self._prefix) :] if self._window else ""
        self._window, self._read, self._prefix = [], 0, ""
        return text

    def _feed_one(self, token_id: int) -> str:
        if token_id in self._hidden:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        held = text.endswith("\ufffd") and len(self._window) < WINDOW_MAX
        if held or len(text) <= len(self._prefix):
            return ""
        fresh = text[len(self._prefix) :]
        self._window = self._window[self._read :]
        self._read = len(self._window)
        self._prefix = self._decode(self._window)
        return fresh
