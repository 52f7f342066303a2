"""Measures how long the hf engine takes to choose tokens: prints a table, asserts nothing.

    python bench/sampling.py --rows 1,8,32 --vocabularies 49152,128256

Random logits of a spread of 3, milliseconds of a step's rows: the median of ``--rounds``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services/worker"), str(ROOT / "proto"), str(ROOT)]

import sluice_kernels  # noqa: E402 (found by the path just set)
import torch  # noqa: E402
from sluice_worker.engines.base import SamplingParams  # noqa: E402
from sluice_worker.engines.hf.native_draws import NativeDraws  # noqa: E402
from sluice_worker.engines.hf.row_sampler import RowSampler  # noqa: E402
from sluice_worker.engines.hf.sampler import DrawTokens, sample  # noqa: E402
from sluice_worker.engines.hf.torch_draws import draw_by_torch  # noqa: E402

from bench.stats import figure, table  # noqa: E402

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 0.8": {"temperature": 0.8},
    "top_p 0.9": {"temperature": 0.8, "top_p": 0.9},
    "top_p 0.99": {"temperature": 1.0, "top_p": 0.99},
    "top_k 40": {"temperature": 0.8, "top_k": 40},
}


def measure(logits: torch.Tensor, way: dict[str, Any], draw: DrawTokens, rounds: int) -> float:
    """Milliseconds to choose a token for each row of ``logits`` [rows, vocabulary]."""
    params = SamplingParams(max_tokens=100, **way)
    rows = [RowSampler(params, seed, (), [5, 6, 7], []) for seed in range(len(logits))]
    spans = []
    with torch.inference_mode():
        for _ in range(rounds):
            begin = time.perf_counter()
            sample(logits, rows, draw)
            spans.append(time.perf_counter() - begin)
    return statistics.median(spans) * 1e3


def main() -> None:
    """Measure each way with the kernels and with torch, by turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", default="1,8,32", help="a comma list")
    parser.add_argument("--vocabularies", default="49152,128256", help="a comma list")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pools = {name: sluice_kernels.Pool(name, arguments.threads) for name in _instructions()}
    lines = []
    for vocabulary in map(int, arguments.vocabularies.split(",")):
        for count in map(int, arguments.rows.split(",")):
            logits = torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
            for name in (*pools, "torch"):
                draw = NativeDraws(pools[name], vocabulary) if name in pools else draw_by_torch
                found = [measure(logits, way, draw, arguments.rounds) for way in WAYS.values()]
                lines.append([name, str(vocabulary), str(count), *(figure(ms, 2) for ms in found)])
    print(table(("by", "vocabulary", "rows", *WAYS), lines))


def _instructions() -> list[str]:
    found = []
    for name in sluice_kernels.INSTRUCTION_SETS:
        try:
            sluice_kernels.check(name)
        except LookupError as reason:
            print(f"not measured: {name} ({reason})", file=sys.stderr)
        else:
            found.append(name)
    return found


if __name__ == "__main__":
    main()
