"""From a model directory to an engine that is warm."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from sluice_worker.engines.base import ModelInfo
from sluice_worker.engines.hf.architecture import check_servable
from sluice_worker.engines.hf.batch import TILE, Runner, Span
from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.engine import HfEngine
from sluice_worker.engines.hf.fingerprint import fingerprint
from sluice_worker.engines.hf.huge_pages import use_huge_pages
from sluice_worker.engines.hf.kernels import instructions_of, open_pool
from sluice_worker.engines.hf.kv_cache import KvBudget, KvShape
from sluice_worker.engines.hf.linear import Fp16RangeError
from sluice_worker.engines.hf.machine import core_count, free_memory, trim_memory
from sluice_worker.engines.hf.native_decoder import NativeDecoder
from sluice_worker.engines.hf.native_draws import NativeDraws
from sluice_worker.engines.hf.options import HfOptions, LoadProgress, ModelLoadError
from sluice_worker.engines.hf.paths import Path, find_path
from sluice_worker.engines.hf.sampler import DrawTokens
from sluice_worker.engines.hf.scheduler import Scheduler
from sluice_worker.engines.hf.torch_draws import draw_by_torch
from sluice_worker.grammars.store import Grammars

log = logging.getLogger(__name__)

#: Of the contract's later fields, those that this engine honours.
REQUEST_FIELDS = frozenset({"bad_words", "priority", "prompt_logprobs", "thinking_budget"})

_LENGTH_UNKNOWN = 2048
_KV_SHARE = 0.5


def load_engine(options: HfOptions, progress: LoadProgress) -> HfEngine:
    """Load and warm a model. Raises ModelLoadError."""
    progress("loading", 0, 0)
    threads = options.num_threads or core_count()
    torch.set_num_threads(threads)
    config = _read_config(options)
    check_servable(config)
    checkpoint = _checkpoint(options, progress)
    max_len = _max_model_len(options, config)
    with torch.inference_mode():
        path = _load_weights(options, config, checkpoint, max_len)
        trim_memory()
        use_huge_pages()
        budget = _kv_budget(options, path.kv, max_len)
        max_len = _fitting_length(budget, max_len)
        runner = path.build(max_len)
        progress("warming", 0, 0)
        _warm(runner, options, max_len)
    log.info("path %s, kernel %s, batch invariant: %s", runner.name, path.kernel, path.invariant)
    draw = _draw_for(runner, options)
    drawer = "torch" if draw is draw_by_torch else "compiled"
    tile = min(TILE, options.prefill_chunk)
    eos_ids = _eos_ids(options, config, runner.vocab_size)
    grammars = Grammars.of_model(options.model_dir, runner.vocab_size, eos_ids)
    model = ModelInfo(
        fingerprint=fingerprint(config, checkpoint, path, tile, drawer),
        max_model_len=max_len,
        vocab_size=runner.vocab_size,
        eos_token_ids=eos_ids,
        batch_max=options.batch_max,
        structured_output=grammars is not None,
        request_fields=REQUEST_FIELDS,
    )
    return HfEngine(
        model,
        runner,
        _scheduler(options, runner, budget),
        draw,
        grammars,
        queue_max=options.queue_max,
        batch_delay=options.batch_delay_ms / 1000,
        threads=threads,
    )


def _scheduler(options: HfOptions, runner: Runner, budget: KvBudget) -> Scheduler:
    return Scheduler(
        runner,
        budget,
        options.batch_max,
        options.prefill_chunk,
        TILE,
        step_seconds=options.prefill_step_ms / 1000 or math.inf,
        prefix_caching=options.prefix_caching,
    )


def _draw_for(runner: Runner, options: HfOptions) -> DrawTokens:
    """By the runner's own threads, or in the engine's thread alone."""
    if isinstance(runner, NativeDecoder):
        return runner.draw_tokens
    try:
        pool = open_pool(instructions_of(options.kernels), threads=1)
    except LookupError:
        return draw_by_torch
    return NativeDraws(pool, runner.vocab_size)


def _checkpoint(options: HfOptions, progress: LoadProgress) -> Checkpoint:
    """The model's checkpoint; what is read of it is told."""
    done = 0

    def on_read(count: int) -> None:
        nonlocal done
        done += count
        progress("loading", done, checkpoint.bytes_total)

    checkpoint = Checkpoint(options.model_dir, on_read)
    return checkpoint


def describe_config(options: HfOptions) -> str:
    """Class and context length of a model that can be served. Raises ModelLoadError."""
    config = _read_config(options)
    check_servable(config)
    name = (getattr(config, "architectures", None) or [config.model_type])[0]
    return f"{name}, context of {_max_model_len(options, config)} tokens"


def _read_config(options: HfOptions) -> Any:
    from transformers import AutoConfig

    if not (options.model_dir / "config.json").is_file():
        raise ModelLoadError("the model has no config.json", "check the model's directory")
    try:
        return AutoConfig.from_pretrained(
            options.model_dir,
            trust_remote_code=options.trust_remote_code,
            local_files_only=True,
        )
    except Exception as error:  # transformers raises many kinds here
        raise ModelLoadError(
            f"transformers cannot read the model's config: {str(error).strip()[:200]}",
            "use a model type that transformers knows, or set trust_remote_code",
        ) from error


def _max_model_len(options: HfOptions, config: Any) -> int:
    language = config.get_text_config(decoder=True)
    own = getattr(language, "max_position_embeddings", None)
    if own is None:
        return options.max_model_len or _LENGTH_UNKNOWN
    if options.max_model_len is not None and options.max_model_len > own:
        raise ModelLoadError(
            f"max_model_len is {options.max_model_len} and the model was made for {own} tokens",
            f"set MAX_MODEL_LEN to {own} or less",
        )
    return int(options.max_model_len or own)


def _load_weights(options: HfOptions, config: Any, checkpoint: Checkpoint, max_len: int) -> Path:
    """Load in the precision asked for, or float32 if "auto" finds no other way."""
    precision = options.dtype
    if precision == "auto":
        precision = "float16" if checkpoint.is_16_bit() else "float32"
    try:
        return find_path(options, config, checkpoint, precision, max_len)
    except (Fp16RangeError, LookupError) as error:
        reason = "a weight is too large for float16"
        if isinstance(error, LookupError):
            reason = str(error)
        if options.dtype != "auto":
            raise ModelLoadError(reason, "set DTYPE to float32") from error
        log.warning("weights are kept in float32: %s", reason)
    return find_path(options, config, checkpoint, "float32", max_len)


def _kv_budget(options: HfOptions, kv: KvShape, max_len: int) -> KvBudget:
    most = options.batch_max * -(-max_len // kv.block_tokens)
    if options.kv_cache_bytes is None:
        size = int(free_memory() * _KV_SHARE)
    else:
        size = options.kv_cache_bytes
    blocks = min(size // kv.block_bytes, most)
    if blocks < 1:
        raise ModelLoadError(
            f"{size} bytes hold no block of keys and values, which takes {kv.block_bytes}",
            "raise KV_CACHE_BYTES",
        )
    return KvBudget(blocks, kv.block_tokens)


def _fitting_length(budget: KvBudget, max_len: int) -> int:
    holds = budget.blocks * budget.block_tokens
    if holds < max_len:
        log.warning("max_model_len is lowered from %d to %d: KV_CACHE_BYTES", max_len, holds)
    return min(max_len, holds)


def _warm(runner: Runner, options: HfOptions, max_len: int) -> None:
    """First passes through every kernel, at the sizes that steps will have."""
    tile = min(TILE, options.prefill_chunk, max_len)
    tiles = max(1, min(options.batch_max, options.prefill_chunk // tile))
    for rows in sorted({1, tiles}):
        runner.forward([Span(slot, 0, [0] * tile, False, True) for slot in range(rows)])
        _release(runner, rows)
    for rows in sorted({1, options.batch_max}):
        for step in range(min(2, max_len)):
            runner.forward([Span(slot, step, [0], True, True) for slot in range(rows)])
        _release(runner, rows)


def _release(runner: Runner, slots: int) -> None:
    for slot in range(slots):
        runner.release(slot)


def _eos_ids(options: HfOptions, config: Any, vocab_size: int) -> tuple[int, ...]:
    """End-of-sequence ids: the generation config's if it has some, else the config's."""
    from transformers import GenerationConfig

    ids = None
    if (options.model_dir / "generation_config.json").is_file():
        try:
            ids = GenerationConfig.from_pretrained(options.model_dir).eos_token_id
        except (OSError, ValueError) as error:
            raise ModelLoadError(
                "generation_config.json cannot be read", "download the model again"
            ) from error
    if ids is None:
        ids = getattr(config.get_text_config(decoder=True), "eos_token_id", None)
    if ids is None:
        return ()
    several = ids if isinstance(ids, list | tuple) else [ids]
    return tuple(sorted({int(token) for token in several if 0 <= int(token) < vocab_size}))
