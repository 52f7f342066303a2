"""Which engine the suites that serve a real model run with, and how it is set up for a test.

``TEST_ENGINE=vllm`` (``make test-vllm``) runs them with vLLM, on the device that MODEL_DEVICE
names.
"""

from __future__ import annotations

import os

#: Long enough for vLLM on a small machine; the others are ready in seconds.
READY_SECONDS = 150.0


def engine_name() -> str:
    """The engine of this run."""
    return os.environ.get("TEST_ENGINE", "hf")


def contract_engines() -> list[str]:
    """The engines that the contract suite goes over."""
    return ["vllm"] if engine_name() == "vllm" else ["fake", "hf"]


def worker_environment() -> dict[str, str]:
    """Settings of a worker with that engine."""
    return vllm_environment() if engine_name() == "vllm" else {"ENGINE": engine_name()}


def vllm_environment() -> dict[str, str]:
    """vLLM as small as it goes, and exact: no compilation, float32, little memory."""
    device = os.environ.get("MODEL_DEVICE", "cpu")
    return {
        "ENGINE": "vllm",
        "MODEL_DEVICE": device,
        "DTYPE": "float32",
        "KV_CACHE_BYTES": "256MiB",
        "VLLM_ARGS": "--enforce-eager",
    }
