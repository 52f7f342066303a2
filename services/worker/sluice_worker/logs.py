"""How the log is written: for people, or as one JSON object a line."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["console", "json"]

#: The attribute of a log record that holds its fields: ``extra={DETAILS: {...}}``.
DETAILS = "details"

CONSOLE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Console(logging.Formatter):
    """The fields of a line stand behind its message, as name=value."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        line = super().formatMessage(record)
        details: dict[str, Any] | None = getattr(record, DETAILS, None)
        if details is None:
            return line
        return f"{line} {' '.join(f'{name}={_shown(each)}' for name, each in details.items())}"


class JsonLines(JsonFormatter):
    """One object a line. The fields of a line stand beside its message."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """See JsonFormatter."""
        time = log_data.pop("time").isoformat(timespec="milliseconds")
        details = log_data.pop(DETAILS, {})
        return super().process_log_record({"time": time, **log_data, **details})


class _LibraryLogger(logging.Logger):
    """A logger that keeps to the root's handler.

    PyTorch, transformers and the hub's client each write to standard error by a handler of their
    own, in a format of their own, and bar their lines from the root's.
    """

    _declined = False

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 (logging's name)
        """Add a handler, unless it writes to a standard stream."""
        if type(hdlr) is logging.StreamHandler:
            self._declined = True
        else:
            super().addHandler(hdlr)

    @property
    def propagate(self) -> bool:
        """Whether the root's handler gets the lines: it does in a declined one's stead."""
        return self._declined or self._propagate

    @propagate.setter
    def propagate(self, value: bool) -> None:
        self._propagate = value


def set_up_logs(level: str, style: LogFormat) -> None:
    """Log to the standard error stream. Comes before libraries are imported that log."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Console(CONSOLE) if style == "console" else JsonLines())
    logging.basicConfig(level=level, handlers=[handler])
    if style == "json":
        logging.captureWarnings(True)
        logging.setLoggerClass(_LibraryLogger)


def _shown(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)
