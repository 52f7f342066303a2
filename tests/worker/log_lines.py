"""A worker's log where it is JSON."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.processes import Process

Line = dict[str, Any]


def lines_of(process: Process) -> list[Line]:
    """All lines that are whole. Fails if one of them is no JSON object."""
    whole, _, _ = process.text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def line_of(process: Process, seconds: float = 20.0, **values: object) -> Line:
    """The first line with these values, as soon as it is there."""
    deadline = time.monotonic() + seconds
    while True:
        for line in lines_of(process):
            if values.items() <= line.items():
                return line
        assert time.monotonic() < deadline, f"no line with {values} in:\n{process.text()}"
        time.sleep(0.02)
