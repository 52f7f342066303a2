"""What vLLM says, in one line fit for clients and logs."""

from __future__ import annotations

import re

#: Longer than any sentence that helps; vLLM likes to list all that it knows, or what it was given.
_LENGTH_MAX = 300

_PATH = re.compile(r"(?<![\w/.])/(?:[\w.+@-]+/)+[\w.+@-]*")
_DETAILS = re.compile(r"\s*(\(parameter=.*|\[type=.*)$", re.DOTALL)
#: Pydantic puts what matters on a line of its own, behind one of these.
_MARKS = ("Value error, ", "Assertion failed, ")


def one_line(error: BaseException) -> str:
    """The sentence that matters, without paths, values and further lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        for mark in _MARKS:
            if line.startswith(mark):
                return _clean(line.removeprefix(mark))
    return _clean(lines[0]) if lines else type(error).__name__


def _clean(line: str) -> str:
    line = _PATH.sub("the model's directory", _DETAILS.sub("", line))
    return line if len(line) <= _LENGTH_MAX else line[: _LENGTH_MAX - 3] + "..."
