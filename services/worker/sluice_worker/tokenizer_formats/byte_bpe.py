"""Byte-level BPE from ranks: what tiktoken's files and Mistral's tekken.json hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sluice_worker.tokenizer_formats import probe
from sluice_worker.tokenizer_formats.byte_alphabet import spelled
from sluice_worker.tokenizer_formats.errors import not_convertible
from sluice_worker.tokenizer_formats.exactness import Original
from sluice_worker.tokenizer_formats.merges import competing, merge, merges_of

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: Digits one by one (Qwen), or up to three together (Llama 3 and GLM 4, from tiktoken's cl100k).
SINGLE_DIGITS = rf"{_CONTRACTIONS}|\p{{N}}|{_REST}"
TRIPLE_DIGITS = rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_REST}"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Patterns that mean the same to tiktoken's regular expressions and to those of ``tokenizers``.
_KNOWN_PATTERNS = frozenset((SINGLE_DIGITS, TRIPLE_DIGITS, TEKKEN))


@dataclass(frozen=True, slots=True)
class ByteBpe:
    """Ranks by token, and the pattern that cuts a text before. ``offset``: the id of rank 0."""

    ranks: Mapping[bytes, int]
    pattern: str
    offset: int = 0
    nfc: bool = False

    def tokenizer(self, added: Mapping[int, AddedToken], file_name: str) -> Tokenizer:
        """The tokenizer, with the ids of ``added`` in its vocabulary. Raises TokenizerMissing."""
        ranks = self._spelled()
        vocabulary = {token: rank + self.offset for token, rank in ranks.items()}
        for token_id, token in added.items():
            if 0 <= token_id - self.offset < len(ranks) or token.content in ranks:
                reason = f"the added token {token.content!r} takes the place of one of its own"
                raise not_convertible(file_name, reason)
            vocabulary[token.content] = token_id
        # Both libraries take a stretch that is a token as it is, without asking for its merges.
        model = models.BPE(vocabulary, merges_of(ranks), ignore_merges=True)
        made = Tokenizer(model)
        if self.nfc:
            made.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(self._regex(file_name), behavior="isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        made.decoder = decoders.ByteLevel()
        return made

    def original(self, tokenizer: Tokenizer, file_name: str) -> Original:
        """The library itself, or its rule where it is not installed. Raises TokenizerMissing."""
        if find_spec("tiktoken") is not None:
            return _Tiktoken(self)
        if self.pattern not in _KNOWN_PATTERNS:
            raise not_convertible(
                file_name,
                "its pattern for cutting texts is not one that is known to work alike everywhere, "
                "and the package tiktoken, to compare with, is not in this worker's image",
            )
        return _Rule(self._spelled(), self.offset, tokenizer)

    def probes(self) -> Iterator[str]:
        """Texts to compare in, those of its own vocabulary among them."""
        yield from probe.TEXTS
        texts = [text for token in self.ranks if (text := _text(token)) is not None]
        yield from probe.of_vocabulary(texts)
        yield from filter(None, map(_text, competing(self.ranks)))

    def _regex(self, file_name: str) -> Regex:
        try:
            return Regex(self.pattern)
        except Exception as error:  # its own class has no name
            raise not_convertible(file_name, "its pattern for cutting texts is broken") from error

    def _spelled(self) -> dict[str, int]:
        return {spelled(token): rank for token, rank in self.ranks.items()}


class _Tiktoken:
    """The library that defines the format."""

    name = "tiktoken"

    def __init__(self, bpe: ByteBpe) -> None:
        import tiktoken  # not in every image

        self._offset = bpe.offset
        self._nfc = bpe.nfc
        self._encoding: Any = tiktoken.Encoding(
            "model", pat_str=bpe.pattern, mergeable_ranks=dict(bpe.ranks), special_tokens={}
        )

    def encode(self, text: str) -> list[int]:
        """See Original."""
        text = unicodedata.normalize("NFC", text) if self._nfc else text
        return [rank + self._offset for rank in self._encoding.encode_ordinary(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """See Original."""
        ranks = [token_id - self._offset for token_id in ids]
        return str(self._encoding.decode(ranks, errors="replace"))


class _Rule:
    """What tiktoken does with a stretch of text; the stretches are the result's own."""

    name = "the merging of bytes by rank"

    def __init__(self, ranks: Mapping[str, int], offset: int, tokenizer: Tokenizer) -> None:
        self._ranks = ranks
        self._offset = offset
        self._tokenizer = tokenizer
        self._bytes = {spelled(bytes([byte])): byte for byte in range(256)}
        self._tokens = {rank: token for token, rank in ranks.items()}

    def encode(self, text: str) -> list[int]:
        """See Original."""
        normalizer = self._tokenizer.normalizer
        text = normalizer.normalize_str(text) if normalizer else text
        stretches = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        return [
            self._ranks[token] + self._offset
            for stretch, _ in stretches
            for token in ([stretch] if stretch in self._ranks else merge(stretch, self._ranks))
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """See Original."""
        tokens = "".join(self._tokens[token_id - self._offset] for token_id in ids)
        return bytes(self._bytes[char] for char in tokens).decode(errors="replace")


def _text(token: bytes) -> str | None:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None
