"""``python -m sluice_gateway``: runs one gateway."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from sluice_gateway.logs import set_up_logs
from sluice_gateway.server import AddressInUse, serve
from sluice_gateway.settings import SettingsError, read_settings, read_trace_settings


def main() -> int:
    """Run a gateway. 0: told to stop, 2: a setting is wrong."""
    try:
        settings, traces = read_settings(), read_trace_settings()
        set_up_logs(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, traces))
    except (SettingsError, AddressInUse) as error:
        print(f"sluice_gateway: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
