"""A fake model that loads until a test lets it be ready, however fast the machine is."""

from __future__ import annotations

import threading
from pathlib import Path


class LoadGate:
    """Give ``environment`` to a worker with the fake engine; it loads until ``open``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "load-gate"
        self.environment = {"ENGINE": "fake", "FAKE_LOAD_UNTIL": str(self._file)}

    def open(self) -> None:
        """Let the load end."""
        self._file.touch()

    def open_after(self, seconds: float) -> None:
        """Let the load end in a while: as soon as a request waits for it."""
        timer = threading.Timer(seconds, self.open)
        timer.daemon = True
        timer.start()
