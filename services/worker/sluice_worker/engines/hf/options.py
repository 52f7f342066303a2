"""What an hf engine can be told, and what goes wrong when it cannot be had."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DTYPES = ("auto", "float32", "float16", "bfloat16", "int8")

FASTEST, NO_KERNELS = "fastest", "none"
KERNELS = (FASTEST, "avx512", "avx2", NO_KERNELS)


#: ``progress(stage, bytes read, bytes in all)``. The stage is "loading", told again as tensors are
#: read where that is known, and then "warming", as the first passes begin.
LoadProgress = Callable[[str, int, int], None]


#: The folders of an absolute path, but not of an address.
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"]+/)*(?=\w)")


class ModelLoadError(Exception):
    """The model cannot be served. The message says why and what to do, in one line.

    It reaches clients: of paths that a library names in ``cause``, only files' names are left.
    """

    def __init__(self, cause: str, mend: str = "") -> None:
        cause = _FOLDERS.sub("", " ".join(cause.split()))
        super().__init__(f"{cause}; {mend}" if mend else cause)
        self.cause = cause
        self.mend = mend


@dataclass(frozen=True)
class HfOptions:
    """Options of the hf engine.

    ``batch_max``: the most rows of a step. More rows give more tokens a second in all
    and fewer for each. ``batch_delay_ms``: how long an idle engine waits for company
    before its first step. ``max_model_len``: the most tokens of prompt and output;
    the model's own limit if None. ``kv_cache_bytes``: the most memory for keys and
    values; half of what is free after the weights if None. ``dtype``: how weights are
    kept, "float32", "float16" (arithmetic stays float32), "bfloat16" (on CPUs with instructions
    for it linear layers round their inputs and outputs to it too), "int8", or "auto" for float16
    if the checkpoint has 16-bit weights. ``prefill_chunk``: prompt tokens of a step; fewer
    keep the pace of running rows, more bring first tokens sooner. ``prefill_step_ms``: how long a
    step may take while rows decode: it has fewer prompt tokens if need be, a tile at least; 0: no
    bound. ``queue_max``: rows that
    may wait.
    ``num_threads``: cores to compute on; those of the container if None.
    ``prefix_caching``: whether keys and values of prompts are kept, as far as
    ``kv_cache_bytes`` allows, for prompts that begin alike. ``kernels``: with which
    instructions the compiled kernels compute what they can: "fastest" of those that the CPU has,
    "avx512", "avx2", or "none". Without them torch computes it.
    """

    model_dir: Path
    batch_max: int = 32
    batch_delay_ms: float = 2.0
    max_model_len: int | None = None
    kv_cache_bytes: int | None = None
    dtype: str = "auto"
    prefill_chunk: int = 256
    prefill_step_ms: float = 80.0
    queue_max: int = 256
    num_threads: int | None = None
    trust_remote_code: bool = False
    prefix_caching: bool = True
    kernels: str = FASTEST

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ModelLoadError(
                f"dtype {self.dtype!r} is not one that the hf engine computes in",
                f"use one of {', '.join(DTYPES)} ('auto' suits every checkpoint)",
            )
        if self.kernels not in KERNELS:
            raise ModelLoadError(
                f"there are no kernels {self.kernels!r}", f"use one of {', '.join(KERNELS)}"
            )
        for name in ("batch_max", "prefill_chunk"):
            self._at_least(name, 1)
        for name in ("queue_max", "batch_delay_ms", "prefill_step_ms"):
            self._at_least(name, 0)
        for name in ("max_model_len", "kv_cache_bytes", "num_threads"):
            if getattr(self, name) is not None:
                self._at_least(name, 1)

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value < least:
            raise ModelLoadError(f"{name} is {value}", f"set it to {least} or more")
