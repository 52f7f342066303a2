"""Private characters that stand in for something while a template renders."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sluice_gateway.errors import InvalidRequest

FIRST, LAST = 0xF0000, 0x10FFFD
_PRIVATE = re.compile(f"[{chr(FIRST)}-{chr(LAST)}]")
# What templates compare with: no text of a client's, wherever it stands.
_STRUCTURE = {
    "role": {"system", "developer", "user", "assistant", "tool"},
    "type": {
        *("text", "function"),
        *("array", "boolean", "integer", "null", "number", "object", "string"),
    },
}


class Shield:
    """Keeps the text of special tokens in a client's strings from becoming special tokens.

    ``cover`` puts one private character for each such text, the template renders it like any
    other character, and ``uncover`` puts the text back where only text is wanted.
    """

    def __init__(
        self, strings: Iterable[str], find: Callable[[str], list[tuple[int, int]]]
    ) -> None:
        """A shield for one conversation.

        ``strings``: all strings of the client, to find characters that are not in them.
        ``find``: where in a string the text of special tokens is.
        """
        self._find = find
        self._taken = {char for text in strings for char in _PRIVATE.findall(text)}
        self._next = FIRST + secrets.randbelow(0x8000)
        self._stands_for: dict[str, str] = {}
        self._covered: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def take(self) -> str:
        """A private character that is nowhere in the client's strings."""
        while chr(self._next) in self._taken:
            self._next += 1
        if self._next > LAST - 2:
            raise InvalidRequest("The messages have too many special tokens in them.")
        self._next += 1
        return chr(self._next - 1)

    def cover(self, text: str) -> str:
        """The text, each special token's text in it replaced."""
        pieces, last = [], 0
        for begin, end in self._find(text):
            pieces += [text[last:begin], self._character_for(text[begin:end])]
            last = end
        return "".join([*pieces, text[last:]])

    def uncover(self, text: str) -> str:
        """The text as it was before ``cover``."""
        if not self._stands_for:
            return text
        if self._pattern is None:
            self._pattern = re.compile("|".join(map(re.escape, self._stands_for)))
        return self._pattern.sub(lambda match: self._stands_for[match.group()], text)

    def _character_for(self, text: str) -> str:
        if text not in self._covered:
            char = self._covered[text] = self.take()
            self._stands_for[char] = text
            # As a template writes it that escapes all but ASCII in its JSON.
            high, low = divmod(ord(char) - 0x10000, 0x400)
            self._stands_for[f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"] = text
            self._pattern = None
        return self._covered[text]


def _is_structure(key: str, item: Any) -> bool:
    return isinstance(item, str) and item in _STRUCTURE.get(key, ())


def strings_of(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys too, that a client may choose freely."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if not _is_structure(key, item):
                yield key
                yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with all those strings changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {
            change(key): item if _is_structure(key, item) else map_strings(item, change)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value
