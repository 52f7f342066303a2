"""``python -m sluice_worker``: runs one worker, or does something with its model only."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from sluice_worker.engines import EngineNotAvailable, check_engine
from sluice_worker.logs import set_up_logs
from sluice_worker.server import AddressInUse, WorkerServer
from sluice_worker.settings import (
    Settings,
    SettingsError,
    read_settings,
    read_trace_settings,
)
from sluice_worker.threads import end_process
from sluice_worker.trace_settings import TraceSettings


def main() -> int:
    """Run a command. 0: well, or told to stop; 1: the model failed; 2: a setting is wrong."""
    arguments = _parse()
    overrides = {"model_id": arguments.model} if arguments.model else {}
    try:
        settings, traces = read_settings(**overrides), read_trace_settings()
        check_engine(settings.engine_name)
    except (SettingsError, EngineNotAvailable) as error:
        print(f"sluice_worker: {error}", file=sys.stderr)
        return 2
    set_up_logs(settings.log_level, settings.log_format)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every request
    match arguments.command:
        case "download":
            from sluice_worker.commands import download

            return download(settings)
        case "check":
            from sluice_worker.commands import preflight

            return preflight(settings)
    return _serve(settings, traces)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sluice_worker",
        description="Serve one model to gateways. Settings come from the environment; the README "
        "lists them.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="serve",
        choices=("serve", "download", "check"),
        help="serve (default); download: have the model verified in the cache, and end; "
        "check: say whether the model can be had and will run here",
    )
    parser.add_argument("model", nargs="?", help="instead of MODEL_ID")
    return parser.parse_args()


def _serve(settings: Settings, traces: TraceSettings) -> int:
    try:
        return asyncio.run(_run(settings, traces))
    except AddressInUse as error:
        print(f"sluice_worker: {error}", file=sys.stderr)
        return 2


async def _run(settings: Settings, traces: TraceSettings) -> int:
    return await WorkerServer(settings, traces).run()


if __name__ == "__main__":
    end_process(main())
