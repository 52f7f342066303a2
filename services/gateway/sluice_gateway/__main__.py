"""``python -m sluice_gateway``: runs one gateway."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from sluice_gateway.logs import set_up_logs
from sluice_gateway.settings import (
    Settings,
    SettingsError,
    TraceSettings,
    read_settings,
    read_trace_settings,
)


def main() -> int:
    """Run a gateway. 0: told to stop, 2: a setting is wrong."""
    try:
        settings, traces = read_settings(), read_trace_settings()
    except SettingsError as error:
        return _refuse(error)
    set_up_logs(settings.log_level, settings.log_format)
    return _run(settings, traces)


def _run(settings: Settings, traces: TraceSettings) -> int:
    # Only now: FastAPI imports OpenTelemetry's API, which fails at a propagator that it has not.
    from sluice_gateway.server import AddressInUse, serve

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, traces))
    except (SettingsError, AddressInUse) as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    print(f"sluice_gateway: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
