"""Builds the fastest runner that computes a model rightly."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sluice_worker.engines.hf.architecture import DecoderShape, NotThisPath, decoder_shape
from sluice_worker.engines.hf.batch import Runner
from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.decoder import Decoder, read_decoder
from sluice_worker.engines.hf.kv_cache import KvShape
from sluice_worker.engines.hf.linear import LinearFactory, has_bfloat16, kernel_for
from sluice_worker.engines.hf.native_decoder import NativeDecoder, NativeWeights, instructions_for
from sluice_worker.engines.hf.options import HfOptions, ModelLoadError
from sluice_worker.engines.hf.packed import PackedModel, cache_shape, packed_shape
from sluice_worker.engines.hf.selfcheck import agrees, prompts_for, references_of
from sluice_worker.engines.hf.solo import SoloModel
from sluice_worker.engines.hf.transformers_model import load_model, pack_model, text_config

log = logging.getLogger(__name__)

_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8"}

Build = Callable[[int], Runner]
"""Makes the runner, for rows of up to this many tokens."""


@dataclass(frozen=True)
class Path:
    """A model whose weights are loaded, still without room for keys and values.

    ``invariant``: a row's numbers do not depend on the rows beside it. ``cpu``: what they owe to
    the CPU; they are the same where it is.
    """

    name: str
    kernel: str
    kv: KvShape
    invariant: bool
    build: Build
    cpu: str = field(default_factory=torch.backends.cpu.get_cpu_capability)


def find_path(
    options: HfOptions, config: Any, checkpoint: Checkpoint, precision: str, max_len: int
) -> Path:
    """The first path that can compute the model with weights of ``precision``.

    Raises ModelLoadError if none can, Fp16RangeError if a weight is too large, and LookupError if
    this machine has no kernel for that precision.
    """
    reasons = []
    for attempt in _attempts(precision):
        try:
            path = attempt(options, config, checkpoint, precision, max_len)
        except NotThisPath as reason:
            reasons.append(f"{attempt.__name__.strip('_')}: {reason}")
            continue
        if reasons:
            log.info("the model is served by the %s path (%s)", path.name, "; ".join(reasons))
        return path
    raise ModelLoadError(
        f"this {config.model_type} model cannot be computed rightly ({'; '.join(reasons)})",
        "set DTYPE to auto" if precision == "bfloat16" else "use another model, or the vllm engine",
    )


def _attempts(precision: str) -> Sequence[Callable[..., Path]]:
    """In the order of preference."""
    if precision == "bfloat16":
        # torch's products round what goes in and out: faster where the CPU has instructions for
        # it, and too coarse for the checks by which the other paths prove themselves.
        return (_own, _native) if has_bfloat16() else (_native, _own)
    return (_native, _own, _packed, _solo)


def _native(
    options: HfOptions, config: Any, checkpoint: Checkpoint, precision: str, max_len: int
) -> Path:
    shape = decoder_shape(config, checkpoint, max_len)
    instructions = instructions_for(shape, options.kernels)
    weights = NativeWeights(shape, checkpoint, precision)
    _warn_of(weights.unused)

    def build(length: int) -> Runner:
        return NativeDecoder(weights, instructions, options.batch_max, length)

    log.info("compiled kernels: %s", instructions)
    # The kernels compute the same with all instructions; of what they are given, torch has computed
    # the powers that the frequencies are.
    cpu = hashlib.sha256(shape.inverse_frequencies.numpy().tobytes()).hexdigest()
    kernel = f"compiled-{_SHORT[precision]}"
    return Path("native", kernel, _kv_of(shape), invariant=True, build=build, cpu=cpu)


def _own(
    options: HfOptions, config: Any, checkpoint: Checkpoint, precision: str, max_len: int
) -> Path:
    shape = decoder_shape(config, checkpoint, max_len)
    kernel = kernel_for(precision)
    weights = read_decoder(shape, checkpoint, LinearFactory(kernel))
    _warn_of(weights.unused)

    def build(length: int) -> Runner:
        return Decoder(weights, options.batch_max, length)

    return Path("decoder", kernel, _kv_of(shape), weights.counts.invariant, build)


def _kv_of(shape: DecoderShape) -> KvShape:
    return KvShape(shape.layers, shape.kv_heads, shape.head_dim)


def _packed(
    options: HfOptions, config: Any, checkpoint: Checkpoint, precision: str, max_len: int
) -> Path:
    kv = packed_shape(config, max_len)
    kernel = kernel_for(precision)
    pack = LinearFactory(kernel)
    model = load_model(
        options.model_dir, config, "auto", trust_remote_code=options.trust_remote_code
    )
    pack_model(model, pack)
    vocab = model.get_output_embeddings().out_features
    prompts = prompts_for(vocab, options.batch_max, max_len)
    references = references_of(model, prompts)
    counts = pack.row_counts()
    trial = PackedModel(model, kv, counts, min(options.batch_max, len(prompts)), max_len)
    if not agrees(trial, references, prompts):
        raise NotThisPath("packed rows differ from the model's own computation")

    def build(length: int) -> Runner:
        return PackedModel(model, kv, counts, options.batch_max, length)

    return Path("packed", kernel, kv, counts.invariant, build)


def _solo(
    options: HfOptions, config: Any, checkpoint: Checkpoint, precision: str, max_len: int
) -> Path:
    kernel = kernel_for(precision)
    try:
        kv = cache_shape(text_config(config))
    except AttributeError as error:
        raise NotThisPath("its config does not tell the shape of its cache") from error
    failure: Exception | None = None
    for packed in (True, False):
        model = load_model(
            options.model_dir, config, torch.float32, trust_remote_code=options.trust_remote_code
        )
        try:
            runner = _checked_solo(model, LinearFactory(kernel) if packed else None, max_len)
        except (AttributeError, TypeError, RuntimeError, ValueError, IndexError) as error:
            log.info("the solo path failed, packed=%s: %s", packed, error)
            failure = error
        else:
            return Path("solo", kernel, kv, invariant=True, build=_given(runner))
    raise NotThisPath("its cache does not give what a whole pass gives") from failure


def _given(runner: Runner) -> Build:
    return lambda length: runner


def _checked_solo(model: Any, pack: LinearFactory | None, max_len: int) -> Runner:
    vocab = int(model.get_output_embeddings().weight.shape[0])
    if pack is not None:
        pack_model(model, pack)
    prompts = prompts_for(vocab, 1, max_len)
    runner = SoloModel(model, vocab)
    if not agrees(runner, references_of(model, prompts), prompts):
        raise ValueError("a row computed in pieces differs from one computed at once")
    return runner


def _warn_of(unused: list[str]) -> None:
    """Of the tensors that were not read, tell those that transformers would wonder about."""
    for name in unused:
        if not name.endswith("rotary_emb.inv_freq"):
            log.warning("the checkpoint has a tensor that the model does not use: %s", name)
