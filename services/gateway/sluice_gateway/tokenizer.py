"""The model's tokenizer, loaded from the files that its worker sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tokenizers

from sluice_gateway.errors import InternalError, InvalidRequest
from sluice_gateway.literal import SpecialText, literal_tokenizer
from sluice_gateway.output.detokenizer import (
    ByteDetokenizer,
    Detokenizer,
    PieceDetokenizer,
    WindowDetokenizer,
)
from sluice_gateway.special_tokens import SpecialTokens
from sluice_gateway.token_bound import TokenBound
from sluice_gateway.token_table import DecodeScheme, TokenTable

T = TypeVar("T")

# In characters or tokens. For a longer text, ``tokenizers`` is asked by its methods for batches:
# ``encode`` and ``decode`` hold Python's global lock all the time, those for batches do not.
SHORT = 1000


class Tokenizer:
    """Text to token ids and back. Every method may be called from any thread."""

    def __init__(self, data: bytes, config: Mapping[str, Any]) -> None:
        """``data``: tokenizer.json; ``config``: tokenizer_config.json, may be empty."""
        # Kept as bytes: as Python objects a large vocabulary's file is ten times the size.
        self._data = data
        spec = _object(data, "tokenizer.json")
        self._main = _load(data)
        self.special = SpecialTokens.of(self._main, spec.get("model", {}), config)
        tokens = _tokens(self._main)
        self.size = len(tokens)
        self._table = TokenTable(tokens, self.special.ids, DecodeScheme.of(spec.get("decoder")))
        self._bound = TokenBound.of(spec, tokens)
        self._special_text = SpecialText(self._main, self.special)
        self._literal: dict[bool, tokenizers.Tokenizer] = {}
        self._literal_lock = threading.Lock()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Tokenizer:
        """Load ``tokenizer.json`` and, if there, ``tokenizer_config.json``.

        Raises ValueError when they are missing or broken.
        """
        if "tokenizer.json" not in files:
            raise ValueError("the model has no tokenizer.json")
        config = files.get("tokenizer_config.json") or b"{}"
        return cls(files["tokenizer.json"], _object(config, "tokenizer_config.json"))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The text's token ids. The text of special tokens becomes special tokens.

        Raises InvalidRequest for text that the tokenizer cannot take.
        """
        return list(self._encoding(text, add_special_tokens=add_special_tokens).ids)

    def encode_covered(self, text: str, uncover: Callable[[str], str]) -> list[int]:
        """The ids of a text that has private characters for special tokens' text.

        ``uncover`` turns them into that text, which stays text; special tokens that are written
        as such become special tokens.

        Between two special tokens the tokenizer sees nothing but the text between them, so such
        a stretch is encoded on its own, exactly as in the whole, by a tokenizer that knows no
        special tokens.
        """
        encoding = self._encoding(text, offsets=True)
        encoded = encoding.ids  # a new list at each look
        ids: list[int] = []
        start, first = 0, 0  # of the stretch: where in the text, and which token
        marks = [*self._special_text.marks(text, encoding), (len(encoded), len(text), 0)]
        for place, begin, end in marks:
            stretch = text[start:begin]
            plain = uncover(stretch)
            if plain == stretch:
                ids += encoded[first:place]
            else:
                ids += self._encode_literally(plain, at_start=start == 0)
            ids += encoded[place : place + 1]
            start, first = end, place + 1
        return ids

    def special_text(self, text: str) -> list[tuple[int, int]]:
        """Where the text has what would become special tokens: (start, end) in characters."""
        if not self._special_text.possible(text):
            return []
        return self._special_text.find(text, lambda: self._encoding(text, offsets=True))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The ids' text, as Hugging Face's tokenizers decode it. Unknown ids have none."""
        try:
            return guarded(lambda: _decode(self._main, token_ids, skip_special_tokens))
        except ValueError as error:
            raise InternalError("The tokens cannot be decoded.") from error

    def added_tokens(self) -> list[tuple[int, str, bool]]:
        """The tokens that were added to the vocabulary: id, text, whether it is special."""
        added = self._main.get_added_tokens_decoder()
        return [(token_id, token.content, token.special) for token_id, token in added.items()]

    def detokenizer(
        self, *, skip_special_tokens: bool = True, shown: frozenset[int] = frozenset()
    ) -> Detokenizer:
        """An incremental detokenizer. All that it says equals ``decode`` of all it was fed.

        ``shown``: special tokens that are not skipped. Their texts are kept from call to call,
        so it should be one set for each model.
        """
        table, scheme = self._table, self._table.scheme
        texts, raw = table.view(shown) if skip_special_tokens else (table.texts, table.raw)
        if scheme.kind == "bytes":
            return ByteDetokenizer(texts, raw)
        if scheme.kind == "pieces":
            first = table.first_text if scheme.strip_first else None
            return PieceDetokenizer(texts, raw, strip=scheme.strip, first_text=first)
        hidden = self.special.ids - shown if skip_special_tokens else frozenset()
        return WindowDetokenizer(lambda ids: self.decode(ids, skip_special_tokens=False), hidden)

    def token_bytes(self, token_id: int) -> bytes:
        """The token's raw bytes, which may be half a character. Empty for an unknown id."""
        if not 0 <= token_id < self.size:
            return b""
        if self._table.scheme.kind == "other":
            return self.decode([token_id], skip_special_tokens=False).encode()
        return self._table.raw[token_id]

    def least_tokens(self, text: str) -> int:
        """A number of tokens that the text cannot be encoded in fewer than. Costs no encoding."""
        return self._bound.least(text)

    @property
    def longest_token(self) -> int:
        """The characters of the longest token in the vocabulary."""
        return self._bound.longest

    def _encoding(
        self, text: str, *, add_special_tokens: bool = False, offsets: bool = False
    ) -> tokenizers.Encoding:
        try:
            return guarded(
                lambda: _encode(
                    self._main, text, add_special_tokens=add_special_tokens, offsets=offsets
                )
            )
        except ValueError as error:
            raise InvalidRequest("The text cannot be tokenized.") from error

    def _encode_literally(self, text: str, *, at_start: bool) -> list[int]:
        with self._literal_lock:
            if at_start not in self._literal:
                spec = _object(self._data, "tokenizer.json")
                self._literal[at_start] = literal_tokenizer(spec, self.special, at_start=at_start)
            literal = self._literal[at_start]
        try:
            encoding = guarded(lambda: _encode(literal, text))
        except ValueError as error:
            raise InvalidRequest("The text cannot be tokenized.") from error
        return list(encoding.ids)


def guarded(call: Callable[[], T]) -> T:
    """The call's result. What fails in Rust, panics included, is raised as ValueError.

    A panic arrives as a BaseException, which no ``except Exception`` on its way would stop.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime":
            raise ValueError(f"the tokenizer failed: {type(error).__name__}") from error
        raise


def _encode(
    loaded: tokenizers.Tokenizer,
    text: str,
    *,
    add_special_tokens: bool = False,
    offsets: bool = False,
) -> tokenizers.Encoding:
    """The text's encoding; without ``offsets`` those in it may be all zero."""
    if len(text) <= SHORT:
        return loaded.encode(text, add_special_tokens=add_special_tokens)
    batch = loaded.encode_batch if offsets else loaded.encode_batch_fast
    return batch([text], add_special_tokens=add_special_tokens)[0]


def _decode(loaded: tokenizers.Tokenizer, ids: Sequence[int], skip_special_tokens: bool) -> str:
    if len(ids) <= SHORT:
        return loaded.decode(ids, skip_special_tokens=skip_special_tokens)
    return loaded.decode_batch([ids], skip_special_tokens=skip_special_tokens)[0]


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")  # noqa: TRY004 - one error for callers
    return value


def _load(data: bytes) -> tokenizers.Tokenizer:
    try:
        loaded = guarded(lambda: tokenizers.Tokenizer.from_str(data.decode()))
    except ValueError as error:
        raise ValueError(f"tokenizer.json cannot be loaded: {error.__cause__}") from error
    # A prompt must never be cut or filled up on the way.
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def _tokens(loaded: tokenizers.Tokenizer) -> list[str | None]:
    vocabulary = loaded.get_vocab(with_added_tokens=True)
    tokens: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        tokens[token_id] = token
    # Where a model's own token and an added one share an id, the added one is what is decoded.
    for token_id, added in loaded.get_added_tokens_decoder().items():
        tokens[token_id] = added.content
    return tokens
