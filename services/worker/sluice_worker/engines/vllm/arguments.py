"""From the worker's settings to vLLM's own arguments, checked by vLLM's own parser."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vllm.config import StructuredOutputsConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from sluice_worker.engines.vllm.adapters import lora_arguments
from sluice_worker.engines.vllm.sampling import GRAMMAR_BACKEND
from sluice_worker.engines.vllm.thinking import reasoning_config
from sluice_worker.engines.vllm.told import one_line
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.source import served_name
from sluice_worker.wire import MAX_LOGPROBS

#: Between the machines that share a model.
LEADER_PORT = 29501


def engine_config(
    settings: Settings, model_dir: Path, adapters: Mapping[str, Path], *, follower: bool = False
) -> VllmConfig:
    """All of vLLM's configuration. Needs the model's config files only. Raises ModelNotUsable."""
    arguments = {**_own(settings, model_dir), **lora_arguments(adapters), **_nodes(settings)}
    given = {**_defaults(model_dir), **_given(settings, set(arguments))}
    _check_device(settings)
    with _refusals():
        return AsyncEngineArgs(**{**given, **arguments}).create_engine_config(headless=follower)


def _own(settings: Settings, model_dir: Path) -> dict[str, Any]:
    """What Sluice's settings say. VLLM_ARGS may not say it again."""
    return {
        "model": str(model_dir),
        "tokenizer": str(model_dir),
        "runner": "generate",
        "skip_tokenizer_init": False,
        "data_parallel_size": 1,
        "served_model_name": served_name(settings),
        "trust_remote_code": settings.trust_remote_code,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "max_num_seqs": settings.batch_max,
        # -1: as long as the model can, or as the memory for keys and values allows.
        "max_model_len": settings.max_model_len or -1,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "kv_cache_memory_bytes": settings.kv_cache_bytes and int(settings.kv_cache_bytes),
        "enable_prefix_caching": settings.enable_prefix_caching,
        "tensor_parallel_size": settings.tp_size,
        "pipeline_parallel_size": settings.pp_size,
        "max_logprobs": MAX_LOGPROBS,
        # The gateway merges the model's own sampling defaults, for every engine.
        "generation_config": "vllm",
        # One dialect of grammars in all engines: the hf engine has llguidance too.
        "structured_outputs_config": StructuredOutputsConfig(backend=GRAMMAR_BACKEND),
        # Of the model's own logits, before temperature and penalties, as the contract has them.
        "logprobs_mode": "raw_logprobs",
        "enable_log_requests": False,
        "disable_log_stats": False,
    }


def _defaults(model_dir: Path) -> dict[str, Any]:
    """What VLLM_ARGS may say otherwise."""
    return {
        "reasoning_config": reasoning_config(model_dir),
        # First come, first served among equals, which rows without a priority are.
        "scheduling_policy": "priority",
    }


def _nodes(settings: Settings) -> dict[str, Any]:
    if settings.node_count == 1:
        return {}
    return {
        "nnodes": settings.node_count,
        "node_rank": settings.node_rank,
        "master_addr": settings.leader_address,
        "master_port": LEADER_PORT,
        "distributed_executor_backend": "mp",
    }


def _given(settings: Settings, own: set[str]) -> dict[str, Any]:
    """What VLLM_ARGS says, by vLLM's own parser. Raises ModelNotUsable."""
    try:
        words = shlex.split(settings.vllm_args)
    except ValueError as error:
        raise _wrong(f"{error}") from error
    if any(word.partition("=")[0] == "--config" for word in words):
        raise _wrong("--config is not taken: give its arguments themselves")
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    AsyncEngineArgs.add_cli_args(parser)
    for action in parser._actions:  # noqa: SLF001 (what is not said must not be there)
        action.default = argparse.SUPPRESS
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            given: dict[str, Any] = vars(parser.parse_args(words))
    except SystemExit as error:
        told = complaints.getvalue().strip().splitlines() or ["not understood"]
        raise _wrong(told[-1]) from error
    except Exception as error:
        raise _wrong(one_line(error)) from error
    given.pop("model_tag", None)
    if clash := sorted(own & given.keys()):
        names = ", ".join("--" + name.replace("_", "-") for name in clash)
        raise _wrong(f"{names} is set by Sluice: use its own settings, or leave it out")
    return given


class _Parser(FlexibleArgumentParser):  # type: ignore[misc]
    """Raises what it has to complain of."""

    def error(self, message: str) -> None:
        raise ValueError(message)


def _wrong(reason: str) -> ModelNotUsable:
    return ModelNotUsable(f"VLLM_ARGS: {reason}")


def _check_device(settings: Settings) -> None:
    """Whether vLLM finds the device that was asked for; without a word of it, any will do."""
    if "model_device" not in settings.model_fields_set:
        return
    found = current_platform.device_type
    if found != settings.model_device:
        have = f"vLLM finds a device of type {found!r}" if found else "vLLM finds no device"
        raise ModelNotUsable(
            f"MODEL_DEVICE={settings.model_device}, but {have} here: check the drivers, that the "
            "container was given a GPU, and that this is vLLM's build for the device"
        )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Translate what vLLM says to a model or to arguments that it cannot have."""
    try:
        yield
    except ModelNotUsable:
        raise
    except Exception as error:  # of many kinds: vLLM's own, pydantic's, transformers'
        raise ModelNotUsable(f"vLLM cannot serve it so: {one_line(error)}", str(error)) from error
