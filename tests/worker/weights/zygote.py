"""Forks processes that have all imported already: ``python zygote.py``, orders on its input.

An order is a line of JSON: the arguments of ``python -m sluice_worker``, an environment, a file
for the output, and the patches to apply. It answers with the process's id at once, and with
``ID STATUS`` when a process has ended. Its children end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import itertools
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import sluice_worker.weights.download  # noqa: F401 (imported once, for all)
from sluice_worker.__main__ import main
from sluice_worker.weights import lease


def no_links(*args: object, **kwargs: object) -> None:
    raise OSError(95, "Operation not supported")


def no_lock(*args: object, **kwargs: object) -> None:
    pass


def die_at(step: int) -> None:
    """Kill the process before the file system is changed for the so-manieth time."""
    steps = itertools.count()

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **keywords)

        return call

    for name in ("mkdir", "open", "rename", "replace", "symlink_to", "touch", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    for name in ("fsync", "pwrite"):
        setattr(os, name, counted(getattr(os, name)))


def patch(name: str) -> None:
    if name == "no links":
        Path.symlink_to = no_links  # type: ignore[method-assign]
    elif name == "no locks":
        fcntl.flock = fcntl.lockf = no_lock
    elif name == "soon stale":
        lease.BEAT_SECONDS, lease.STALE_SECONDS = 0.4, 2.5
    elif name.startswith("die at step "):
        die_at(int(name.rpartition(" ")[2]))
    else:
        raise ValueError(name)


def child(order: dict[str, Any]) -> int:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.update(order["environment"])
    importlib.reload(huggingface_hub.constants)  # it reads the environment
    for name in order["patches"]:
        patch(name)
    sys.argv = ["sluice_worker", *order["arguments"]]
    try:
        return main()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 70


def reap(children: set[int]) -> None:
    while children:
        with contextlib.suppress(ChildProcessError):
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            children.discard(process)
            print(process, os.waitstatus_to_exitcode(status), flush=True)


def serve() -> None:
    children: set[int] = set()
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == reading:
                os.read(reading, 4096)
                reap(children)
            elif not (line := os.read(0, 1 << 16)):
                for process in children:
                    os.kill(process, signal.SIGKILL)
                return
            else:
                order = json.loads(line)
                if not (process := os.fork()):
                    code = child(order)
                    sys.stdout.flush()
                    os._exit(code)
                children.add(process)
                print("started", process, flush=True)


if __name__ == "__main__":
    serve()
