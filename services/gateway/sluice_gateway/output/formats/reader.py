"""Text that comes in pieces, read as if it were all there.

A format is read by a generator, which asks a Reader for what should come next and yields when it
must wait for more text. So a format is written down as one would say it, and how the text was cut
cannot matter: every method waits until its answer is certain, or the text has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from sluice_gateway.output.formats.json_scan import JsonScan

T = TypeVar("T")
Steps = Generator[None, None, T]
Sink = Callable[[str], None]

SPACE = " \t\r\n"
_SPACES = re.compile(f"[{SPACE}]*")
_WORD = re.compile(r"[A-Za-z0-9_-]*")
_SCALAR = re.compile(r"[A-Za-z0-9+\-.]*")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class Marks:
    """Strings to look for, of which none is a beginning of another."""

    __slots__ = ("_firsts", "_longest", "pattern", "strings")

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self._longest = max(map(len, strings), default=0)
        self._firsts = frozenset(string[0] for string in strings)
        # "(?!)" is found nowhere.
        self.pattern = re.compile("|".join(map(re.escape, strings)) or "(?!)")

    def begun(self, text: str, at: int) -> int:
        """How many of the last characters, from ``at`` on, may be the beginning of a mark."""
        size = len(text)
        for place in range(max(at, size - self._longest + 1), size):
            if text[place] in self._firsts:
                tail = text[place:]
                if any(string.startswith(tail) for string in self.strings):
                    return size - place
        return 0


NO_MARKS = Marks(())


class Reader:
    """The text of one answer.

    What was taken is gone, but for the tape: from ``record`` to ``rewind`` or ``forget`` it
    keeps what is taken, so that text which turns out to be no call can be shown after all.
    """

    __slots__ = ("_at", "_tape", "_text", "ended", "position")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._tape: list[str] | None = None
        self.ended = False
        self.position = 0  # characters taken

    def push(self, text: str) -> None:
        """More text. What is kept of the text before it is never more than a mark or a name."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self) -> None:
        """No more text will come."""
        self.ended = True

    def record(self, before: str = "") -> None:
        """Begin a tape, with text that was taken just before. One that runs goes on."""
        if self._tape is None:
            self._tape = []
        self._tape.append(before)

    def rewind(self) -> str:
        """End the tape; what is on it."""
        tape, self._tape = self._tape, None
        return "".join(tape or ())

    def forget(self) -> None:
        """End the tape."""
        self._tape = None

    def take(self, count: int) -> str:
        """The next characters, which are there."""
        text = self._text[self._at : self._at + count]
        self._at += count
        self.position += count
        if self._tape is not None:
            self._tape.append(text)
        return text

    def discard(self) -> None:
        """Take what is there, and forget it."""
        self.take(self._left())

    def more(self) -> Steps[bool]:
        """Wait for more text; False: the text has ended."""
        if self.ended:
            return False
        yield
        return True

    def peek(self) -> Steps[str]:
        """The next character, not taken; "" at the end."""
        while self._at == len(self._text):
            if not (yield from self.more()):
                return ""
        return self._text[self._at]

    def match(self, literal: str) -> Steps[bool]:
        """Take the literal if it comes next."""
        size = len(literal)
        while True:
            if self._text.startswith(literal, self._at):
                self.take(size)
                return True
            if self._left() >= size or not literal.startswith(self._text[self._at :]):
                return False
            if not (yield from self.more()):
                return False

    def spaces(self) -> Steps[None]:
        """Take the whitespace that comes next."""
        yield from self.run(_SPACES)

    def run(self, pattern: re.Pattern[str], sink: Sink | None = None) -> Steps[None]:
        """Take all characters that match; ``pattern`` is a repeated class of characters."""
        while True:
            match = pattern.match(self._text, self._at)
            text = self.take(match.end() - self._at) if match else ""
            if sink is not None and text:
                sink(text)
            if self._left() or not (yield from self.more()):
                return

    def word(self, limit: int) -> Steps[str]:
        """A name of at most so many characters; "" if there is none, and then nothing is taken."""
        while True:
            match = _WORD.match(self._text, self._at)
            size = match.end() - self._at if match else 0
            if size > limit:
                return ""
            if size < self._left() or not (yield from self.more()):
                return self.take(size)

    def string(self, limit: int) -> Steps[str | None]:
        """A JSON string of at most so many characters as written; None: nothing was taken."""
        while True:
            bound = self._at + limit
            match = _STRING.match(self._text, self._at, bound)
            if match is not None:
                value = _decoded(match.group())
                if value is not None:
                    self.take(match.end() - self._at)
                return value
            if len(self._text) >= bound or self._text[self._at : self._at + 1] not in ("", '"'):
                return None
            if not (yield from self.more()):
                return None

    def upto(self, literal: str, limit: int) -> Steps[str | None]:
        """The text before the literal, which is taken too.

        None, and nothing is taken, if it does not come within so many characters.
        """
        while True:
            bound = self._at + limit + len(literal)
            found = self._text.find(literal, self._at, bound)
            if found >= 0:
                return self.take(found + len(literal) - self._at)[: -len(literal)]
            if len(self._text) >= bound or not (yield from self.more()):
                return None

    def until(self, marks: Marks, sink: Sink) -> Steps[str | None]:
        """Hand text on up to the first of the marks, which is taken; None: the text ended."""
        while True:
            match = marks.pattern.search(self._text, self._at)
            if match is not None:
                self._hand_on(match.start() - self._at, sink)
                return self.take(match.end() - match.start())
            self._hand_on(self._left() - marks.begun(self._text, self._at), sink)
            if not (yield from self.more()):
                self._hand_on(self._left(), sink)
                return None

    def value(self, sink: Sink) -> Steps[bool]:
        """Hand on the object, list or string that comes next.

        False: its end did not come; what could be of it has been handed on.
        """
        scan = JsonScan()
        while True:
            self._hand_on(scan.scan(self._text, self._at) - self._at, sink)
            if scan.done or scan.broken:
                return scan.done
            if not (yield from self.more()):
                self._hand_on(self._left(), sink)
                return False

    def any_value(self, sink: Sink) -> Steps[bool]:
        """Hand on the JSON value that comes next, of whatever type."""
        char = yield from self.peek()
        if char and char in '{["':
            return (yield from self.value(sink))
        yield from self.run(_SCALAR, sink)
        return True

    def _left(self) -> int:
        return len(self._text) - self._at

    def _hand_on(self, count: int, sink: Sink) -> None:
        if count > 0:
            sink(self.take(count))


def _decoded(literal: str) -> str | None:
    try:
        value = json.loads(literal, strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
