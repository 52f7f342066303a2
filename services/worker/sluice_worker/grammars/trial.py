"""A process in which grammars are tried before the worker compiles them itself."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice_worker.grammars import compiler

log = logging.getLogger(__name__)

START_SECONDS = 60.0
ANSWER_SECONDS = 20.0
"""The program's own limit is processor time; this one is for a machine without any to spare."""


class TrialFailed(Exception):
    """The grammar was not tried to its end: it took too long, or too much memory."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a trial: why the grammar fails, or nothing, and bytes that it takes."""

    failure: str
    size: int


class GrammarTrial:
    """Tries one grammar at a time. The process begins with the first and is kept.

    One that dies of a grammar is replaced for the next.
    """

    def __init__(self, tokenizer: Path, width: int, eos_ids: Sequence[int]) -> None:
        program = str(Path(compiler.__file__))
        ids = map(str, eos_ids)
        self._command = [sys.executable, "-P", program, str(tokenizer), str(width), *ids]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def verdict(self, grammar: str) -> Verdict:
        """Try a grammar; blocks. Raises TrialFailed."""
        with self._lock:
            if self._closed:
                raise TrialFailed("the engine is closed")
            try:
                process = self._process or self._begin()
                self._process = process
                failure, size = json.loads(_ask(process, json.dumps(grammar)))
            except (OSError, ValueError, TrialFailed) as error:
                log.warning("a grammar was not tried to its end: %s", error)
                self._end()
                raise TrialFailed(str(error)) from error
            return Verdict(failure, size)

    def close(self) -> None:
        """End the process. No grammar is tried after this."""
        self._closed = True
        process = self._process
        if process is not None:  # ends a trial under way, too
            process.kill()
        with self._lock:
            self._end()

    def _begin(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 (our own program)
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._process = process
        _read_line(process, START_SECONDS)
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what it did not read
                pipe.close()


def _ask(process: subprocess.Popen[bytes], question: str) -> bytes:
    assert process.stdin is not None
    process.stdin.write(question.encode() + b"\n")
    process.stdin.flush()
    return _read_line(process, ANSWER_SECONDS)


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line that the process writes. Raises TrialFailed if none comes."""
    assert process.stdout is not None
    number = process.stdout.fileno()
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([number], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TrialFailed(f"no answer within {seconds:.0f} seconds")
        piece = os.read(number, 65536)
        if not piece:
            raise TrialFailed(f"its process ended with {process.wait()}")
        line += piece
    return line
