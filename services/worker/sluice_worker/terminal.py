"""How a model comes along, for a person at a terminal or for a job's log."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TextIO, TypedDict

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sluice_worker.lifecycle import State, state_name
from sluice_worker.progress import Progress

#: How far apart the lines are where there is no terminal to draw on.
LINE_SECONDS = 5.0

#: The width of a bar on a terminal that does not know its own.
WIDTH = 80


class _Size(TypedDict):
    dynamic_ncols: bool
    ncols: int | None
    nrows: int | None


class TerminalReport(AbstractContextManager["TerminalReport"]):
    """A LoadReport: a progress bar on a terminal, else a line now and then."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._bar: tqdm[None] | None = None
        self._state = ""
        self._note = ""
        self._line_at = 0.0
        self._redirect = logging_redirect_tqdm() if stream.isatty() else None

    def __enter__(self) -> Self:
        if self._redirect is not None:  # what is logged must not tear the bar
            self._redirect.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_bar()
        if self._redirect is not None:
            self._redirect.__exit__(kind, error, trace)

    def state(self, state: State) -> None:
        """See LoadReport."""
        if state_name(state) == self._state:
            return
        self._close_bar()
        self._state = state_name(state)
        self._line_at = time.monotonic() + LINE_SECONDS
        self._print(f"{self._state} {self._name}")

    def progress(self, progress: Progress) -> None:
        """See LoadReport."""
        if not progress.bytes_total:
            return
        if not self._stream.isatty():
            if time.monotonic() >= self._line_at:
                self._line_at = time.monotonic() + LINE_SECONDS
                self._print(f"{self._state} {progress}")
            return
        if self._bar is None:
            self._bar = tqdm(
                file=self._stream,
                desc=self._state,
                total=progress.bytes_total,
                initial=progress.bytes_done,
                unit="B",
                unit_scale=True,
                **_size(self._stream),
            )
        self._bar.total = progress.bytes_total
        self._bar.set_postfix_str(self._note or progress.file, refresh=False)
        self._bar.update(progress.bytes_done - self._bar.n)

    def note(self, message: str) -> None:
        """See LoadReport."""
        if message and message != self._note:
            self._print(message)
        self._note = message

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _size(stream: TextIO) -> _Size:
    """The bar follows the terminal's size, if that is known: a container's may say 0 by 0."""
    try:
        known = os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        known = False
    if known:
        return {"dynamic_ncols": True, "ncols": None, "nrows": None}
    return {"dynamic_ncols": False, "ncols": WIDTH, "nrows": 24}
