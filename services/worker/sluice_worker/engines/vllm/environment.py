"""What vLLM reads from its environment, set before it is imported. Values from outside stand."""

from __future__ import annotations

import os

from sluice_worker.engines.vllm.json_logs import CONFIG
from sluice_worker.engines.vllm.plugin import WORKER_VARIABLE
from sluice_worker.settings import Settings

#: vLLM gives up on weights that load for longer than this. The worker waits for as long as bytes
#: move, so the limit is one that no model comes near.
_READY_SECONDS = 24 * 3600


def prepare_environment(settings: Settings) -> None:
    """Set vLLM's variables. Its processes inherit them."""
    defaults = {
        # A server of one's own tells nobody what it serves.
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": settings.log_level,
        "VLLM_ENGINE_READY_TIMEOUT_S": str(_READY_SECONDS),
        # The engine's processes are started anew, not forked: gRPC's threads do not survive a fork.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if settings.log_format == "json" and os.environ.get("VLLM_CONFIGURE_LOGGING") != "0":
        defaults["VLLM_LOGGING_CONFIG_PATH"] = str(CONFIG)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[WORKER_VARIABLE] = str(os.getpid())
