"""Measures what the hf engine's prefix cache saves: prints a table, asserts nothing.

    python bench/prefix_cache.py --tokens 256,1000

Prefill of a prompt that is new, of one whose beginning an ended row left (its slot is gone on
with), and of one whose beginning is copied from another slot. The model is the random 135M
Llama of ``bench/engine.py``, or that of ``--model``.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services/worker"), str(ROOT / "proto"), str(ROOT)]

from bench import random_llama  # noqa: E402 (found by the path just set)

TAIL = 20
"""Tokens after the beginning that is shared: a next question."""


class Client:
    """Asks a started engine for the first token of prompts."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._count = 0
        self._done = threading.Event()
        self._start: Any = None
        engine.start(self._emit, print)

    def prefill(self, prompt: list[int]) -> tuple[float, int]:
        """Milliseconds of prefill, and tokens that were cached."""
        from sluice_worker.engines.base import GenerationRequest, RowKey, RowSpec, SamplingParams

        self._count += 1
        self._done.clear()
        params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
        row = RowSpec(RowKey(0, self._count), 0)
        self._engine.submit(GenerationRequest(prompt, params, (row,)))
        self._done.wait()
        return self._start.prefill_seconds * 1000, self._start.cached_tokens

    def _emit(self, output: Any) -> None:
        self._start = output.rows[0].start
        self._done.set()


def measure(client: Client, tokens: int, vocab: int, rounds: int) -> list[tuple[float, int]]:
    """The best of ``rounds``: new, gone on with, copied."""
    runs = []
    for turn in range(rounds):
        chance = random.Random(tokens + turn)
        prompt = [chance.randrange(10, vocab) for _ in range(tokens)]
        tails = [[chance.randrange(10, vocab) for _ in range(TAIL)] for _ in range(2)]
        new = client.prefill(prompt)
        gone_on = client.prefill(prompt + tails[0] * 10)
        runs.append([new, gone_on, client.prefill(prompt + tails[1])])
    return [min(column) for column in zip(*runs, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", default="256,1000", help="lengths of the shared beginning")
    parser.add_argument("--model", type=Path, help="a model directory; a random one if absent")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is shown")
    args = parser.parse_args()
    from sluice_worker.engines.hf import HfOptions, load

    with random_llama.unless(args.model) as model:
        engine = load(HfOptions(model, dtype=args.dtype), lambda *news: None)
        client = Client(engine)
        client.prefill([5] * 70)
        titles = ("new", "goes on (+200 tokens)", f"copied (+{TAIL} tokens)")
        print(
            "prefill, ms (tokens cached)\n" + f"{'prompt':<8}" + "".join(f"{t:>26}" for t in titles)
        )
        for tokens in map(int, args.tokens.split(",")):
            cells = measure(client, tokens, engine.model.vocab_size, args.rounds)
            texts = [f"{milliseconds:.0f} ({cached})" for milliseconds, cached in cells]
            print(f"{tokens:<8}" + "".join(f"{cell:>26}" for cell in texts))
        engine.close()


if __name__ == "__main__":
    main()
