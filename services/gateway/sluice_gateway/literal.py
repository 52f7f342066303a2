"""Special tokens' text that a client wrote, and how to encode it as nothing but text."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tokenizers

from sluice_gateway.special_tokens import SpecialTokens


class SpecialText:
    """Finds the text of special tokens, in a string and in an encoding."""

    def __init__(self, loaded: tokenizers.Tokenizer, special: SpecialTokens) -> None:
        self._special = special
        contents = [token.content for token in special.by_id.values() if token.content]
        self._pattern = re.compile(_any_of(contents)) if contents else None
        # A special token that is matched after normalization has more spellings than its own
        # (in other case, in full width), and only the tokenizer knows them.
        self._spellings = loaded.normalizer is not None and any(
            token.normalized for token in special.by_id.values()
        )

    def possible(self, text: str) -> bool:
        """A cheap test: false means that the text has no special token's text."""
        if self._pattern is None:
            return False
        return self._spellings or self._pattern.search(text) is not None

    def find(self, text: str, encode: Callable[[], tokenizers.Encoding]) -> list[tuple[int, int]]:
        """Where it is, (start, end) in characters, in order and without overlaps."""
        found = [match.span() for match in self._pattern.finditer(text)] if self._pattern else []
        if not self._spellings:
            return found
        found += [(begin, end) for _, begin, end in self.marks(text, encode())]
        apart: list[tuple[int, int]] = []
        for begin, end in sorted(found, key=lambda span: (span[0], -span[1])):
            if not apart or begin >= apart[-1][1]:
                apart.append((begin, end))
        return apart

    def marks(self, text: str, encoding: tokenizers.Encoding) -> Iterator[tuple[int, int, int]]:
        """The special tokens in the encoding, as (place, begin, end).

        The place is among the encoding's tokens; begin and end are in the text, with whitespace
        that the token swallowed between them.
        """
        by_id = self._special.by_id
        found = [
            (place, token_id) for place, token_id in enumerate(encoding.ids) if token_id in by_id
        ]
        # Each look at an encoding's offsets makes a new list of all of them.
        offsets = encoding.offsets if found else []
        for place, token_id in found:
            token = by_id[token_id]
            begin, end = offsets[place]
            # The unknown token also stands for text that the vocabulary lacks.
            if token_id != self._special.unk_id or text[begin:end].strip() == token.content:
                yield place, begin, end


def literal_tokenizer(
    spec: Mapping[str, Any], special: SpecialTokens, *, at_start: bool
) -> tokenizers.Tokenizer:
    """A tokenizer with the same ids to which the special tokens' text is only text.

    ``encode_special_tokens`` alone is not enough: it stops the search for special tokens, but a
    model may still find them in its own vocabulary (Unigram does). So they get names that nobody
    can guess. ``at_start`` false: for a stretch that does not begin the text, where Metaspace
    with ``prepend_scheme: first`` writes no space.
    """
    secret = secrets.token_hex(16)
    renamed = {
        token.content: f"\U0010fffd{secret}:{token.id}"
        for token in special.by_id.values()
        if token.id != special.unk_id
    }
    copy = dict(spec)
    copy["added_tokens"] = [
        {**token, "content": renamed.get(token["content"], token["content"])}
        for token in spec.get("added_tokens", [])
    ]
    copy["model"] = _renamed_model(spec["model"], renamed)
    copy["post_processor"] = copy["truncation"] = copy["padding"] = None
    if not at_start:
        copy["pre_tokenizer"] = _not_first(spec.get("pre_tokenizer"))
    literal = tokenizers.Tokenizer.from_str(json.dumps(copy))
    literal.encode_special_tokens = True
    return literal


def _renamed_model(model: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    copy = dict(model)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        copy["vocab"] = {renamed.get(token, token): value for token, value in vocabulary.items()}
    elif isinstance(vocabulary, list):
        copy["vocab"] = [[renamed.get(token, token), score] for token, score in vocabulary]
    if "merges" in model:
        copy["merges"] = [merge for merge in model["merges"] if not _uses(merge, renamed)]
    return copy


def _uses(merge: str | list[str], renamed: Mapping[str, str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in renamed or right in renamed or left + right in renamed


def _not_first(pre_tokenizer: Any) -> Any:
    if isinstance(pre_tokenizer, list):
        return [_not_first(part) for part in pre_tokenizer]
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    copy = {key: _not_first(value) for key, value in pre_tokenizer.items()}
    if copy.get("prepend_scheme") == "first":
        copy["prepend_scheme"] = "never"
    return copy


def _any_of(words: Iterable[str]) -> str:
    """A pattern for the longest of the words at a place.

    A tree of alternatives rather than a list: vocabularies have thousands of special tokens, and
    a list would try each of them at every "<".
    """
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for char in word:
            node = node.setdefault(char, {})
        node[""] = {}
    return _branches(tree)


def _branches(node: dict[str, Any]) -> str:
    prefix = ""
    while len(node) == 1 and "" not in node:
        char, node = next(iter(node.items()))
        prefix += re.escape(char)
    options = [re.escape(char) + _branches(child) for char, child in node.items() if char]
    if not options:
        return prefix
    return f"{prefix}(?:{'|'.join(options)}){'?' if '' in node else ''}"
