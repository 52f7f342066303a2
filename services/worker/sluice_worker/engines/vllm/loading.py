"""Loads a model into vLLM, and tells how far it is."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import vllm
from sluice.worker.v1 import worker_pb2 as pb
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from sluice_worker.engines.base import AdapterInfo, ModelInfo
from sluice_worker.engines.vllm.adapters import lora_requests
from sluice_worker.engines.vllm.arguments import engine_config
from sluice_worker.engines.vllm.engine import VllmEngine
from sluice_worker.engines.vllm.fingerprint import fingerprint
from sluice_worker.engines.vllm.load_failure import read_failure
from sluice_worker.engines.vllm.load_folder import LoadFolder
from sluice_worker.engines.vllm.sampling import REQUEST_FIELDS
from sluice_worker.engines.vllm.stats import StepSource, step_logger
from sluice_worker.engines.vllm.thinking import keeps_budgets
from sluice_worker.engines.vllm.thread import EngineThread
from sluice_worker.engines.vllm.weights_progress import read_counts
from sluice_worker.grammars.store import Grammars
from sluice_worker.progress import Meter
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.report import LoadReport

log = logging.getLogger(__name__)

#: How often it is told how far a model has been read.
TELL_SECONDS = 0.25

#: What has no meaning to vLLM, and what has it instead.
_NO_MEANING = {
    "batch_delay_ms": "vLLM never waits for company: a request joins the batch at the next step",
    "prefill_chunk": "use VLLM_ARGS=--max-num-batched-tokens N",
    "prefill_step_ms": "use VLLM_ARGS=--max-num-batched-tokens N",
    "num_threads": "vLLM counts its own; see OMP_NUM_THREADS",
}


def load(
    settings: Settings, model_dir: Path, report: LoadReport, adapters: Mapping[str, Path]
) -> VllmEngine:
    """Load a model. Blocking; raises ModelNotUsable."""
    for name in settings.model_fields_set & _NO_MEANING.keys():
        log.warning("%s has no meaning with ENGINE=vllm: %s", name.upper(), _NO_MEANING[name])
    config = engine_config(settings, model_dir, adapters)
    requests = lora_requests(adapters)
    steps = StepSource()
    thread = EngineThread()
    try:
        llm = _load_watched(thread, config, steps, requests, model_dir, report)
    except ModelNotUsable:
        thread.stop()
        raise
    eos_ids = _eos_token_ids(llm)
    grammars = Grammars.of_model(model_dir, llm.model_config.get_vocab_size(), eos_ids)
    model = replace(
        _describe(llm, settings, model_dir, adapters), structured_output=grammars is not None
    )
    return VllmEngine(model, llm, thread, steps, requests, grammars, queue_max=settings.queue_max)


def _load_watched(
    thread: EngineThread,
    config: VllmConfig,
    steps: StepSource,
    adapters: Mapping[str, LoRARequest],
    model_dir: Path,
    report: LoadReport,
) -> AsyncLLM:
    """Load in vLLM's thread; tell in this one how far it is."""
    loaded: Future[AsyncLLM] = Future()

    def run() -> None:
        try:
            loaded.set_result(thread.call(_load(config, steps, adapters, report)))
        except Exception as error:  # noqa: BLE001 (raised below)
            loaded.set_exception(error)

    with LoadFolder() as folder:
        threading.Thread(target=run, name="vllm-load", daemon=True).start()
        total = _weight_bytes(model_dir)
        meter = Meter(total)
        warming = False
        while not loaded.done():
            count, finished = read_counts(folder.path)
            if finished and not warming:
                warming = True
                report.state(pb.WORKER_STATE_WARMING)
                report.note("vLLM compiles and warms up; a model's first start takes minutes")
            elif not warming:
                meter.add(min(count, total) - meter.done)
                report.progress(meter.progress())
            time.sleep(TELL_SECONDS)
        try:
            return loaded.result()
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelNotUsable(_why(read_failure(folder.path)), repr(error)) from error


def _why(told: str | None) -> str:
    if told:
        return f"vLLM could not load the model: {told}"
    return (
        "vLLM could not load the model; its lines in the worker's log say why. Often there is "
        "too little memory: see GPU_MEMORY_UTILIZATION, KV_CACHE_BYTES and MAX_MODEL_LEN"
    )


async def _load(
    config: VllmConfig,
    steps: StepSource,
    adapters: Mapping[str, LoRARequest],
    report: LoadReport,
) -> AsyncLLM:
    llm = AsyncLLM.from_vllm_config(config, stat_loggers=[step_logger(steps.tell)])
    try:
        report.state(pb.WORKER_STATE_WARMING)
        for adapter in adapters.values():
            await _add_adapter(llm, adapter)
        await _warm_up(llm)
    except BaseException:
        llm.shutdown()
        raise
    return llm


async def _add_adapter(llm: AsyncLLM, adapter: LoRARequest) -> None:
    try:
        await llm.add_lora(adapter)
        await llm.pin_lora(adapter.lora_int_id)
    except Exception as error:
        raise ModelNotUsable(
            f"LORA_MODULES: vLLM cannot load the adapter {adapter.lora_name}; the worker's log "
            "says why",
            str(error),
        ) from error


async def _warm_up(llm: AsyncLLM) -> None:
    """One row with all that vLLM compiles at its first use: nobody's first token waits for it."""
    sampling = SamplingParams(
        max_tokens=4,
        temperature=1.0,
        top_p=0.9,
        top_k=8,
        seed=1,
        logprobs=1,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    prompt = {"type": "token", "prompt_token_ids": [0, 0, 0, 0]}
    async for _ in llm.generate(prompt, sampling, "warm-up"):
        pass


def _describe(
    llm: AsyncLLM, settings: Settings, model_dir: Path, adapters: Mapping[str, Path]
) -> ModelInfo:
    config = llm.model_config
    named = partial(
        fingerprint, llm.vllm_config, vllm.__version__, shlex.split(settings.vllm_args), model_dir
    )
    return ModelInfo(
        fingerprint=named(),
        max_model_len=config.max_model_len,
        vocab_size=config.get_vocab_size(),
        eos_token_ids=_eos_token_ids(llm),
        batch_max=settings.batch_max,
        request_fields=_request_fields(llm.vllm_config),
        adapters=tuple(AdapterInfo(name, named(path)) for name, path in adapters.items()),
    )


def _request_fields(config: VllmConfig) -> frozenset[str]:
    """What vLLM honours, for this model and with the operator's arguments."""
    missing = set() if keeps_budgets(config) else {"thinking_budget"}
    if config.scheduler_config.policy != "priority":
        missing.add("priority")
    return REQUEST_FIELDS - missing


def _eos_token_ids(llm: AsyncLLM) -> tuple[int, ...]:
    """Those at which vLLM stops: the tokenizer's, and those of generation_config.json."""
    stated = llm.model_config.try_get_generation_config().get("eos_token_id")
    ids = [stated] if isinstance(stated, int) else list(stated or ())
    own = llm.renderer.get_eos_token_id()
    return tuple(dict.fromkeys(ids if own is None else [own, *ids]))


def _weight_bytes(model_dir: Path) -> int:
    return sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))
