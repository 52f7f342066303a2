"""Measures the hf engine under requests that come as they like: prints a table, asserts nothing.

    python bench/arrivals.py --rates 2,4,6 --prefill-chunks 64,256 --steps-ms 0,80

An open loop: requests arrive at random (Poisson), whether or not those before them are done, with
prompts and answers of many lengths, the same for every row of the table. A request is good when
its first token comes within a second and its tokens follow each other within 100 ms on average;
it is smooth when none of them takes longer.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services/worker"), str(ROOT / "proto"), str(ROOT)]

from bench import random_llama  # noqa: E402 (found by the path just set)
from bench.stats import figure, percentile, table  # noqa: E402 (found by the path just set)

FIRST_SECONDS = 1.0
GAP_SECONDS = 0.1
PROMPTS = (32, 512)
ANSWERS = (16, 256)
HEADER = (
    *("prefill chunk", "step ms", "requests/s", "tokens/s", "rows", "good", "smooth"),
    *("first token p50", "p99", "between p50", "p99", "longest p50"),
)


@dataclass
class Request:
    """A request, and when its tokens came, in seconds from the beginning of the run."""

    at: float
    prompt: list[int]
    answer: int
    came: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.came[0] - self.at

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [after - before for before, after in itertools.pairwise(self.came)]


def requests_of(rate: float, seconds: float) -> list[Request]:
    """Requests that come in so many seconds, their lengths spread evenly by their logarithm."""
    chance = random.Random(1)

    def length(bounds: tuple[int, int]) -> int:
        return round(math.exp(chance.uniform(math.log(bounds[0]), math.log(bounds[1]))))

    found: list[Request] = []
    at = 0.0
    while True:
        gap, prompt, answer = chance.expovariate(1.0), length(PROMPTS), length(ANSWERS)
        at += gap / rate
        if at > seconds:
            return found
        found.append(Request(at, [chance.randrange(1, 49152) for _ in range(prompt)], answer))


class Client:
    """Sends requests to a started engine when they are due."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._requests: list[Request] = []
        self._left = 0
        self._begin = 0.0
        self._done = threading.Event()
        self.batch_sizes: list[int] = []
        engine.start(self._emit, print)

    def run(self, requests: list[Request]) -> None:
        """Send them all, and wait for their answers."""
        from sluice_worker.engines.base import GenerationRequest, RowKey, RowSpec, SamplingParams

        self._requests, self._left, self.batch_sizes = requests, len(requests), []
        self._done.clear()
        self._begin = time.perf_counter()
        for number, request in enumerate(requests):
            time.sleep(max(0.0, self._begin + request.at - time.perf_counter()))
            params = SamplingParams(
                max_tokens=request.answer, temperature=0.8, top_p=0.9, ignore_eos=True
            )
            row = RowSpec(RowKey(0, number), number)
            self._engine.submit(GenerationRequest(request.prompt, params, (row,)))
        self._done.wait()

    def _emit(self, output: Any) -> None:
        now = time.perf_counter() - self._begin
        self.batch_sizes.append(output.batch_size)
        for row in output.rows:
            self._requests[row.key.row_id].came += [now] * len(row.token_ids)
            self._left -= row.finish is not None
        if not self._left:
            self._done.set()


def measure(
    model: Path, args: argparse.Namespace, rate: float, chunk: int, step_ms: float
) -> list[str]:
    """A row of the table."""
    from sluice_worker.engines.hf import HfOptions, load

    options = HfOptions(
        model,
        dtype=args.dtype,
        prefill_chunk=chunk,
        prefill_step_ms=step_ms,
        queue_max=100_000,
        prefix_caching=False,
    )
    engine = load(options, lambda *news: None)
    client = Client(engine)
    requests = requests_of(rate, args.seconds)
    client.run(requests)
    engine.close()
    tokens = sum(len(request.came) for request in requests)
    took = max(request.came[-1] for request in requests)
    gaps = [gap for request in requests for gap in request.gaps]
    firsts = [request.first for request in requests]
    prompt = [request for request in requests if request.first <= FIRST_SECONDS]
    good = [r for r in prompt if sum(r.gaps) <= GAP_SECONDS * len(r.gaps)]
    smooth = [r for r in prompt if max(r.gaps, default=0.0) <= GAP_SECONDS]
    longest = [max(request.gaps, default=0.0) for request in requests]
    rows = sum(client.batch_sizes) / len(client.batch_sizes)
    return [
        *(str(chunk), f"{step_ms:g}", f"{rate:g}", figure(tokens / took), figure(rows, 1)),
        *(f"{100 * len(some) / len(requests):.0f}%" for some in (good, smooth)),
        *(figure(1e3 * percentile(firsts, share)) for share in (0.5, 0.99)),
        *(figure(1e3 * percentile(gaps, share)) for share in (0.5, 0.99)),
        figure(1e3 * percentile(longest, 0.5)),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rates", default="2,4,6", help="requests a second")
    parser.add_argument("--prefill-chunks", default="256", help="PREFILL_CHUNK")
    parser.add_argument("--steps-ms", default="80", help="PREFILL_STEP_MS")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long requests come")
    parser.add_argument("--model", type=Path, help="a model directory; a random one if absent")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    with random_llama.unless(args.model) as model:
        rows = []
        for rate in map(float, args.rates.split(",")):
            for chunk, step_ms in itertools.product(
                map(int, args.prefill_chunks.split(",")), map(float, args.steps_ms.split(","))
            ):
                print(f"{rate:g} requests/s, {chunk} tokens, {step_ms:g} ms", file=sys.stderr)
                rows.append(measure(model, args, rate, chunk, step_ms))
        print(table(HEADER, rows))
        print("Times in ms.")


if __name__ == "__main__":
    main()
