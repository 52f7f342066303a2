"""What the processes that vLLM starts do for the worker; vLLM loads it in each of them."""

from __future__ import annotations

import os
import threading
import time

from sluice_worker.engines.vllm.load_failure import tell_failures
from sluice_worker.engines.vllm.waiting import wait_asleep
from sluice_worker.engines.vllm.weights_progress import count_weights

#: The worker's process id, for the processes that vLLM starts.
WORKER_VARIABLE = "SLUICE_VLLM_WORKER"


def register() -> None:
    """Set this process up. Idempotent; does nothing in a vLLM that no worker started."""
    worker = os.environ.get(WORKER_VARIABLE)
    if worker is None or int(worker) == os.getpid():
        return
    _leave_group(int(worker))
    _end_with_parent()
    tell_failures()
    count_weights()
    wait_asleep()


def _leave_group(worker: int) -> None:
    """Be out of reach of what is sent to the worker's whole group, such as Ctrl-C on a terminal.

    vLLM's core ends at such a signal at once, with all its rows; the worker lets them end first.
    """
    if os.getpgrp() == os.getpgid(worker):
        os.setpgid(0, 0)


def _end_with_parent() -> None:
    """End this process when its parent is gone: killed, a worker cannot end its engine's itself."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    name = "parent-watch"
    if all(thread.name != name for thread in threading.enumerate()):
        threading.Thread(target=watch, name=name, daemon=True).start()
