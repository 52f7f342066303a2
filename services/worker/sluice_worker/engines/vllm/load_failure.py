"""Why a load failed. vLLM's processes log it and end; all that the worker gets is that they have.

So the first error that is logged with an exception is kept, in the folder of the load.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sluice_worker.engines.vllm.load_folder import own_file
from sluice_worker.engines.vllm.told import one_line

_SUFFIX = ".failure"


class _FailureHandler(logging.Handler):
    """Writes the first exception that is logged; later ones follow from it."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        path = own_file(_SUFFIX)
        if path is None or not record.exc_info or record.exc_info[1] is None:
            return
        try:
            with path.open("x") as file:
                file.write(one_line(record.exc_info[1]))
        except (FileExistsError, FileNotFoundError):
            pass  # one was told, or the load is over and its folder gone
        except OSError:
            self.handleError(record)


def tell_failures() -> None:
    """Keep what this process of vLLM's logs of its failure. Idempotent."""
    logger = logging.getLogger("vllm")
    if not any(isinstance(handler, _FailureHandler) for handler in logger.handlers):
        logger.addHandler(_FailureHandler(logging.ERROR))


def read_failure(folder: Path) -> str | None:
    """The line of the process that failed first, if one told."""
    told = sorted(folder.glob("*" + _SUFFIX), key=lambda path: path.stat().st_mtime_ns)
    lines = (path.read_text().strip() for path in told)
    return next((line for line in lines if line), None)
