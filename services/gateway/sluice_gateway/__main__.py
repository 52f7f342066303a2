"""``python -m sluice_gateway``: runs one gateway."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvloop

from sluice_gateway.server import AddressInUse, serve
from sluice_gateway.settings import SettingsError, read_settings


def main() -> int:
    """Run a gateway. 0: told to stop, 2: a setting is wrong."""
    try:
        settings = read_settings()
        _log_at(settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (SettingsError, AddressInUse) as error:
        print(f"sluice_gateway: {error}", file=sys.stderr)
        return 2
    return 0


def _log_at(level: str) -> None:
    """Log to the standard error stream.

    A line of the log costs a request as much as parsing its body does, most of it for finding out
    what no line shows: who called, in which thread and process. logging's documentation
    tells how to leave that out.
    """
    logging._srcfile = None  # noqa: SLF001 (the way that the documentation names)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


if __name__ == "__main__":
    sys.exit(main())
