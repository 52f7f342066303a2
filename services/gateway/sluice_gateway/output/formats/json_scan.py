"""Finds the end of a JSON value in text that comes in pieces. Each character is seen once."""

from __future__ import annotations

import re

# Outside of strings nothing else is JSON. Markup that follows a value which was never closed is
# noticed by it.
_BETWEEN = re.compile(r"[\s\w+\-.,:]*", re.ASCII)
_IN_STRING = re.compile(r'[^"\\]*')


class JsonScan:
    """Looks for the end of one object, list or string; its first character comes first.

    Brackets are counted, not paired: whether the value is valid is for its reader to say.
    """

    __slots__ = ("_depth", "_in_string", "broken", "done")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self.done = False
        self.broken = False

    def scan(self, text: str, at: int) -> int:
        """Where to go on: after the value if now ``done``, at the fault if now ``broken``.

        Else at the end of the text, or at a backslash whose character is not there yet.
        """
        size = len(text)
        while at < size and not (self.done or self.broken):
            if self._in_string:
                at = _end(_IN_STRING, text, at)
                if at + 1 >= size and text.endswith("\\", at):
                    break
                at = self._special(text, at) if at < size else at
            else:
                at = _end(_BETWEEN, text, at)
                at = self._bracket(text, at) if at < size else at
        return at

    def _special(self, text: str, at: int) -> int:
        if text[at] == "\\":
            return at + 2
        self._in_string = False
        self.done = self._depth == 0
        return at + 1

    def _bracket(self, text: str, at: int) -> int:
        char = text[at]
        if char == '"':
            self._in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self.done = self._depth <= 0
        else:
            self.broken = True
            return at
        return at + 1


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()
