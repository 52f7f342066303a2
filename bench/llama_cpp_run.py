"""``python -m bench.llama_cpp_run FILE``: the speed of llama.cpp, as one line of JSON.

Batched greedy decoding through llama.cpp's own C interface: all prompts first, then steps of one
token for every row. Runs where the peers are installed (.venv-peers).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # of .venv-peers
import numpy as np

#: The most tokens of one pass, as llama.cpp's own programs have it.
BATCH = 512


class LlamaError(Exception):
    """llama.cpp refused something."""


@contextlib.contextmanager
def model(file: str) -> Iterator[Any]:
    """A model's handle."""
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    handle = llama_cpp.llama_model_load_from_file(file.encode(), parameters)
    if not handle:
        raise LlamaError(f"{file} cannot be loaded")
    try:
        yield handle
    finally:
        llama_cpp.llama_model_free(handle)


class Decoder:
    """A context with room for ``rows`` sequences of ``length`` tokens."""

    def __init__(self, handle: Any, rows: int, length: int, threads: int) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = rows * length
        parameters.n_seq_max = rows
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(handle, parameters)
        if not self._context:
            raise LlamaError("no context of that size")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._count = 0
        self.vocab_size = vocab_size(handle)

    def close(self) -> None:
        """Free the memory."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Compute the rows' prompts, several in a batch; their first tokens."""
        tokens: list[int] = []
        together = max(1, BATCH // max(map(len, prompts)))
        for first in range(0, len(prompts), together):
            ends = []
            for row, prompt in enumerate(prompts[first : first + together], first):
                for position, token in enumerate(prompt):
                    self._put(token, position, row, wanted=position == len(prompt) - 1)
                ends.append(self._count - 1)
            self._decode()
            tokens += map(self._best, ends)
        return tokens

    def step(self, tokens: Sequence[int], position: int) -> list[int]:
        """One token for every row; the next ones."""
        for row, token in enumerate(tokens):
            self._put(token, position, row, wanted=True)
        self._decode()
        return [self._best(row) for row in range(len(tokens))]

    def logits(self, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Of the last batch's entry ``index``."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self.vocab_size,))

    def _best(self, index: int) -> int:
        return int(self.logits(index).argmax())

    def _put(self, token: int, position: int, row: int, *, wanted: bool) -> None:
        batch, index = self._batch, self._count
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = row
        batch.logits[index] = wanted
        self._count += 1

    def _decode(self) -> None:
        self._batch.n_tokens, self._count = self._count, 0
        if status := llama_cpp.llama_decode(self._context, self._batch):
            raise LlamaError(f"llama_decode: status {status}")


def vocab_size(handle: Any) -> int:
    """How many tokens a model knows."""
    return int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(handle)))


def measure(
    handle: Any, prompts: Sequence[Sequence[int]], given: argparse.Namespace
) -> tuple[float, float]:
    """Seconds to every row's first token, then tokens a second of the steps after it."""
    clock = time.process_time if given.cpu_time else time.perf_counter
    rows, length = len(prompts), len(prompts[0])
    decoder = Decoder(handle, rows, length + given.steps + 2, given.threads)
    try:
        began = clock()
        tokens = decoder.prefill(prompts)
        first = clock() - began
        tokens = decoder.step(tokens, length)  # warm
        began = clock()
        for step in range(1, given.steps + 1):
            tokens = decoder.step(tokens, length + step)
        return first, rows * given.steps / (clock() - began)
    finally:
        decoder.close()


def measure_all(given: argparse.Namespace) -> dict[str, Any]:
    """The fields of the engine benchmark's table; the best of the rounds."""
    result: dict[str, Any] = {"decode": {}, "first": {}}
    with model(given.file) as handle:
        result["ready"] = time.time() - given.started
        for rows in map(int, given.rows.split(",")):
            chance = random.Random(rows)  # the prompts of bench/engine.py
            prompts = [
                [chance.randrange(1, vocab_size(handle)) for _ in range(given.prompt_tokens)]
                for _ in range(rows)
            ]
            pairs = [measure(handle, prompts, given) for _ in range(given.rounds)]
            result["first"][rows] = min(first for first, _ in pairs)
            result["decode"][rows] = max(speed for _, speed in pairs)
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["note"] = f"llama-cpp-python {llama_cpp.__version__}"
    return result


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file")
    parser.add_argument("--rows", default="1,8,32", help="a comma list")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many is told")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cpu-time", action="store_true", help="by processor time")
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    given = parser.parse_args()

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def silent(*_: object) -> None:
        """Its log is of no interest here."""

    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    print(json.dumps(measure_all(given)))


if __name__ == "__main__":
    main()
