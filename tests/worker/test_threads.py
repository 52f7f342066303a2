"""Threads, and the end of the process."""

from __future__ import annotations

import subprocess
import sys

BUSY = """
import threading, time
import torch
from sluice_worker.threads import end_process

def compute():
    numbers = torch.ones(1500, 1500)
    while True:
        numbers @ numbers

threading.Thread(target=compute, daemon=True).start()
time.sleep(0.5)
print("told")
end_process(3)
"""


def test_a_thread_that_is_in_pytorch_does_not_abort_the_process_at_its_end() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "told\n", "")
