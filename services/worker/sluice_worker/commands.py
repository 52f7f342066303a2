"""``download`` and ``check``: what can be done with a model without serving it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

from sluice_worker.preflight import check
from sluice_worker.settings import Settings
from sluice_worker.terminal import TerminalReport
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.source import find_model
from sluice_worker.weights.transfer import Stopped

log = logging.getLogger(__name__)


def download(settings: Settings) -> int:
    """Have the model verified in the cache. 0: it is; 1: it cannot be had; 130: called off."""
    stop = threading.Event()

    def call_off(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, call_off)
    try:
        with TerminalReport(settings.model_id, sys.stderr) as report:
            path = find_model(settings, report, stop)
    except ModelNotUsable as error:
        print(f"sluice_worker: {error}", file=sys.stderr)
        if error.detail:
            print(f"  {error.detail}", file=sys.stderr)
        return 1
    except Stopped:
        print("sluice_worker: called off; what is there is kept", file=sys.stderr)
        return 130
    print(path)
    return 0


def preflight(settings: Settings) -> int:
    """Say of each thing whether it is well. 1 if the model cannot be served here."""
    failed = False
    for finding in check(settings):
        print(finding, flush=True)
        failed = failed or finding.verdict == "FAIL"
    return 1 if failed else 0
