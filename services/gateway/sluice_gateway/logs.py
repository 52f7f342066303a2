"""How the log is written: for people, or as one JSON object a line."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["console", "json"]

#: The attribute of a log record that holds its fields: ``extra={DETAILS: {...}}``.
DETAILS = "details"


class _Console(logging.Formatter):
    """The fields of a line stand behind its message, as name=value."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        line = super().formatMessage(record)
        details: dict[str, Any] | None = getattr(record, DETAILS, None)
        if details is None:
            return line
        return f"{line} {' '.join(f'{name}={_shown(each)}' for name, each in details.items())}"


class _Json(JsonFormatter):
    """The fields of a line stand beside its message."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        details = log_data.pop(DETAILS, {})
        return super().process_log_record({**log_data, **details})


def set_up_logs(level: str, style: LogFormat) -> None:
    """Log to the standard error stream.

    A line of the log costs a request as much as parsing its body does, most of it for finding out
    what no line shows: who called, in which thread and process. logging's documentation
    tells how to leave that out.
    """
    logging._srcfile = None  # noqa: SLF001 (the way that the documentation names)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(style))
    logging.basicConfig(level=level, handlers=[handler])


def _formatter(style: LogFormat) -> logging.Formatter:
    if style == "console":
        return _Console("%(asctime)s %(levelname)s %(name)s: %(message)s")
    return _Json(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )


def _shown(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)
