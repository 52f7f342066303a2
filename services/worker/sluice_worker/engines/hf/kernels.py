"""Which of the compiled kernels an engine uses."""

from __future__ import annotations

import sluice_kernels

from sluice_worker.engines.hf.options import FASTEST, NO_KERNELS, ModelLoadError


def instructions_of(wanted: str) -> str:
    """The instruction set of ``HfOptions.kernels``. Raises LookupError, which says why, if none."""
    if wanted == NO_KERNELS:
        raise LookupError("not wanted")
    if wanted == FASTEST:
        return sluice_kernels.fastest()
    sluice_kernels.check(wanted)
    return wanted


def open_pool(instructions: str, threads: int) -> sluice_kernels.Pool:
    """Threads that compute. Raises ModelLoadError if there are no more to be had."""
    try:
        return sluice_kernels.Pool(instructions, threads)
    except OSError as error:
        raise ModelLoadError(
            str(error), "raise the limit of processes, or lower NUM_THREADS"
        ) from error
