"""``python -m sluice_worker``: runs one worker."""

from __future__ import annotations

import asyncio
import logging
import sys

from sluice_worker.engines import EngineNotAvailable, check_engine
from sluice_worker.server import AddressInUse, WorkerServer
from sluice_worker.settings import Settings, SettingsError, read_settings


def main() -> int:
    """Run a worker. 0: told to stop, 1: the model failed, 2: a setting is wrong."""
    try:
        settings = read_settings()
        check_engine(settings.engine_name)
    except (SettingsError, EngineNotAvailable) as error:
        print(f"sluice_worker: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return asyncio.run(_run(settings))
    except AddressInUse as error:
        print(f"sluice_worker: {error}", file=sys.stderr)
        return 2


async def _run(settings: Settings) -> int:
    return await WorkerServer(settings).run()


if __name__ == "__main__":
    sys.exit(main())
