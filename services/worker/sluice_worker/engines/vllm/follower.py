"""A machine that holds a part of a model whose leader is another one (``NODE_RANK`` above 0)."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from sluice.worker.v1 import worker_pb2 as pb
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from sluice_worker.engines.vllm.arguments import LEADER_PORT, engine_config
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.report import LoadReport

LOOK_SECONDS = 2.0

#: So often in a row the leader may not answer: a network has its moments.
MISSES = 5


def follow(
    settings: Settings, model_dir: Path, report: LoadReport, adapters: Mapping[str, Path]
) -> NoReturn:
    """Compute for the leader until it ends. Blocking; always raises ModelNotUsable then.

    A follower is never ready by itself: gateways talk to the leader.
    """
    config = engine_config(settings, model_dir, adapters, follower=True)
    report.note(f"part {settings.node_rank + 1} of {settings.node_count} of a model")
    executor = MultiprocExecutor(config, monitor_workers=False)
    report.state(pb.WORKER_STATE_WARMING)
    report.note(
        f"part {settings.node_rank + 1} of {settings.node_count}; the leader answers for it"
    )
    executor.start_worker_monitor()
    _wait(executor, str(settings.leader_address))
    executor.shutdown()
    raise ModelNotUsable("the leader of this model, or a process of this part of it, has ended")


def _wait(executor: MultiprocExecutor, leader: str) -> None:
    """Return when a process of ours has failed, or when the leader is gone.

    A leader that ends says nothing to its followers; its port for them is closed then.
    """
    missed = 0
    while not executor.is_failed and missed < MISSES:
        time.sleep(LOOK_SECONDS)
        try:
            socket.create_connection((leader, LEADER_PORT), LOOK_SECONDS).close()
            missed = 0
        except OSError:
            missed += 1
