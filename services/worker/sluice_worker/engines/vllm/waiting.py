"""How vLLM's processes wait for each other where they compute on the same cores."""

from __future__ import annotations

import functools
import time

from vllm.distributed.device_communicators import shm_broadcast
from vllm.platforms import current_platform

#: Seconds of sleep between two looks at the queue; the system's timers make about twice that of it.
_PAUSE = 50e-6


def wait_asleep() -> None:
    """On a CPU, let vLLM's core and its workers sleep while they wait for each other's messages.

    From a row's first token to its last both call ``sched_yield`` in a loop. Beside a GPU they have
    cores to themselves, and a message is seen a little sooner. Here two loops take two cores from
    the threads that compute and from all else on the machine, and a scheduler that is led astray by
    so many yields (Linux 6.18 is) leaves other processes without a turn for seconds: of 32 requests
    sent at once most reached vLLM when the ones before had ended.
    """
    if current_platform.is_cpu():
        shm_broadcast.sched_yield = functools.partial(time.sleep, _PAUSE)
