"""Between the event loop and threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that does not hold up the process's end, as an executor's would."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (it is raised where the future is awaited)
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(result)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(future)


def from_thread(
    loop: asyncio.AbstractEventLoop, callback: Callable[[T], None], argument: T
) -> None:
    """Call on the loop; a loop that is closed already has nobody to tell."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, argument)


def end_process(status: int) -> NoReturn:
    """End at once, with ``status``, whatever threads are doing.

    The interpreter's own end unwinds a daemon thread as it comes back from C++: one that is
    loading or computing in PyTorch then aborts the process, which looks like a crash.
    """
    for child in multiprocessing.active_children():
        child.kill()  # an engine's own processes: what is to be told to them was told
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
