"""Calls that are JSON objects: ``{"name": ..., "arguments": {...}}``, alone or in a list."""

from __future__ import annotations

import json
from typing import Literal

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Steps

KEY_MAX = 64
#: Keys that may stand beside the name and the arguments of a call.
_BESIDE = frozenset({"id", "type"})
_ARGUMENTS = frozenset({"arguments", "parameters"})

#: "none": no call was begun, and the text of what is none is on the tape. "broken": the
#: arguments of a call ended before their JSON did.
Found = Literal["calls", "none", "broken"]


def calls(parse: Parse, *, known: bool = False) -> Steps[Found]:
    """Read an object or a list of them. The reader's tape must run.

    ``known``: JSON is a call only if it has the name of a tool that was offered.
    """
    reader = parse.reader
    if not (yield from reader.match("[")):
        return (yield from call(parse, known=known))
    found: Found = "none"
    while True:
        yield from reader.spaces()
        one = yield from call(parse, known=known)
        if one != "calls":
            # After a first call the rest of a list is content, as it is.
            return one if found == "none" or one == "broken" else found
        found = one
        reader.record()
        yield from reader.spaces()
        if not (yield from reader.match(",")):
            yield from reader.match("]")
            reader.forget()
            return found


def call(parse: Parse, *, known: bool = False) -> Steps[Found]:
    """Read one object."""
    reader = parse.reader
    if not (yield from reader.match("{")):
        return "none"
    reading = _Call(parse, known)
    first = True
    while True:
        yield from reader.spaces()
        if (yield from reader.match("}")):
            return reading.close()
        if not first:
            if not (yield from reader.match(",")):
                return reading.found
            yield from reader.spaces()
        first = False
        key = yield from reader.string(KEY_MAX)
        if key is None:
            return reading.found
        yield from reader.spaces()
        if not (yield from reader.match(":")):
            return reading.found
        yield from reader.spaces()
        if not (yield from reading.value(key)):
            return reading.found


class _Call:
    """A call, while its object is read. It begins when both name and arguments are there."""

    __slots__ = ("_held", "_known", "_name", "_parse", "found")

    def __init__(self, parse: Parse, known: bool) -> None:
        self._parse = parse
        self._known = known
        self._name = ""
        self._held: list[str] | None = None  # arguments that came before the name
        self.found: Found = "none"

    def value(self, key: str) -> Steps[bool]:
        """Read the value of a key; False: this is no call, or it is broken."""
        if self.found == "none" and key == "name" and not self._name:
            return (yield from self._read_name())
        if self.found == "none" and key in _ARGUMENTS and self._held is None:
            return (yield from self._read_arguments())
        if self._known and key not in _BESIDE and self.found == "none":
            return False  # an answer in JSON: do not hold it back to its end
        return (yield from self._parse.reader.any_value(_nowhere))

    def close(self) -> Found:
        """The object has ended."""
        if self._name and self.found == "none":
            self._start()
            self._parse.outlet.arguments("{}")
        return self.found

    def _read_name(self) -> Steps[bool]:
        name = yield from self._parse.reader.string(NAME_MAX + 2)
        if name is None or not self._parse.is_name(name):
            return False
        if self._known and name not in self._parse.tools:
            return False
        self._name = name
        if self._held is not None:
            self._start()
            self._parse.outlet.arguments("".join(self._held))
        return True

    def _read_arguments(self) -> Steps[bool]:
        reader, outlet = self._parse.reader, self._parse.outlet
        if (yield from reader.peek()) != "{":
            return (yield from self._read_odd_arguments())
        if self._name:
            self._start()
            if (yield from reader.value(outlet.arguments)):
                return True
            self.found = "broken"
            return False
        self._held = []
        return (yield from reader.value(self._held.append))

    def _read_odd_arguments(self) -> Steps[bool]:
        """Some models write the object as a string, or null for none."""
        pieces: list[str] = []
        whole = yield from self._parse.reader.any_value(pieces.append)
        text = _unwrapped("".join(pieces))
        if not whole or text is None:
            return False
        self._held = [text]
        if self._name:
            self._start()
            self._parse.outlet.arguments(text)
        return True

    def _start(self) -> None:
        self.found = "calls"
        self._parse.start(self._name)


def _nowhere(text: str) -> None:
    """Do without the text; it is on the tape if it may be wanted."""


def _unwrapped(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if value is None:
        return "{}"
    if not isinstance(value, str):
        return None
    # An escaped half of a surrogate pair could not be sent.
    return value.encode(errors="replace").decode()
