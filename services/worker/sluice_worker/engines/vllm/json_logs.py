"""How vLLM's processes log with LOG_FORMAT=json: as the worker does, each line with its process.

vLLM hands the file beside this one, in the form of ``logging.config.dictConfig``, to each of them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sluice_worker.logs import JsonLines

CONFIG = Path(__file__).with_suffix(".json")

#: vLLM's own name for the process, on every record; that of the worker's own is Python's.
_PROCESS, _WORKER = "vllm_process_name", "MainProcess"


class _ProcessLines(JsonLines):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        process = log_data.pop(_PROCESS, _WORKER)
        if process != _WORKER:
            log_data["process"] = process
        return super().process_log_record(log_data)


def formatter() -> logging.Formatter:
    """What the file names."""
    return _ProcessLines()
