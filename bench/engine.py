"""Measures the hf engine beside transformers' ``generate``: prints tables, asserts nothing.

    python bench/engine.py --rows 1,8,32 --tokens 64

Each engine runs in a process of its own, on a random model of the 135M Llama shape
with 64-token prompts. Decode speed leaves out the prefill. Peers go into ``ENGINES``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services/worker"), str(ROOT / "proto"), str(ROOT)]

from bench import random_llama  # noqa: E402 (found by the path just set)
from bench.peers_engine import PEERS  # noqa: E402 (found by the path just set)

PROMPT = 64
VOCAB = 49152


@dataclass
class Result:
    """What one engine did. Speeds in tokens a second by rows, memory in MiB."""

    decode: dict[int, float] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)
    ready: float = 0.0
    peak: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Job:
    """What to measure. The best of ``rounds`` counts."""

    model: Path
    rows: list[int]
    tokens: int
    rounds: int
    profile: bool
    threads: int | None
    cpu_time: bool

    def clock(self) -> float:
        """Seconds: of the wall, or of this process's processor time."""
        return time.process_time() if self.cpu_time else time.perf_counter()


def prompts(rows: int) -> list[list[int]]:
    """As many random prompts, the same at every call."""
    chance = random.Random(rows)
    return [[chance.randrange(1, VOCAB) for _ in range(PROMPT)] for _ in range(rows)]


def ours(dtype: str, kernels: str = "fastest") -> Callable[[Job], Result]:
    """Our engine, by its thread, as the service runs it."""

    def run(job: Job) -> Result:
        from sluice_worker.engines.hf import HfOptions, load

        result = Result()
        begin = _process_start()
        options = HfOptions(
            job.model,
            dtype=dtype,
            batch_max=max(job.rows),
            num_threads=job.threads,
            kernels=kernels,
            prefill_step_ms=0.0,  # or rows that decode early are done before the last ones begin
        )
        engine = load(options, lambda *news: None)
        result.ready = time.time() - begin
        result.note = engine.model.fingerprint.rsplit("-", 1)[0]
        client = _Client(engine, job)
        for rows in job.rows:
            runs = [client.measure(rows) for _ in range(job.rounds)]
            result.decode[rows] = max(speed for speed, _ in runs)
            result.first[rows] = min(first for _, first in runs)
        result.peak = _peak()
        engine.close()
        if job.profile:
            _profile(job, dtype)
        return result

    return run


class _Client:
    def __init__(self, engine: Any, job: Job) -> None:
        self._job = job
        self._stamps: list[float] = []
        self._engine = engine
        self._steps: list[Any] = []
        self._left = 0
        self._count = 0
        self._done = threading.Event()
        engine.start(self._emit, self._fail)

    def measure(self, rows: int) -> tuple[float, float]:
        """Tokens a second of the steps that only decode, and seconds of prefill."""
        from sluice_worker.engines.base import GenerationRequest, RowKey, RowSpec, SamplingParams

        self._steps, self._left, self._stamps = [], rows, [self._job.clock()]
        self._done.clear()
        params = SamplingParams(max_tokens=self._job.tokens + 1, temperature=0.0, ignore_eos=True)
        for prompt in prompts(rows):
            self._count += 1
            row = RowSpec(RowKey(0, self._count), 0)
            self._engine.submit(GenerationRequest(prompt, params, (row,)))
        self._done.wait()
        spans = [end - begin for begin, end in itertools.pairwise(self._stamps)]
        pairs = list(zip(self._steps, spans, strict=True))
        full = [s for step, s in pairs if not step.prompt_tokens and step.batch_size == rows]
        return rows * len(full) / sum(full), sum(s for step, s in pairs if step.prompt_tokens)

    def _emit(self, output: Any) -> None:
        self._steps.append(output)
        self._stamps.append(self._job.clock())
        self._left -= sum(row.finish is not None for row in output.rows)
        if not self._left:
            self._done.set()

    def _fail(self, error: BaseException) -> None:
        print("the engine failed:", error, file=sys.stderr)
        os._exit(1)


def theirs(dtype: str) -> Callable[[Job], Result]:
    """Transformers' ``generate``, one batch, left-padded (all are as long)."""
    return lambda job: _measure_generate(job, dtype)


def _measure_generate(job: Job, dtype: str) -> Result:
    import torch
    from transformers import AutoModelForCausalLM

    result = Result(note="transformers")
    model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, dtype))
    model.eval()
    if job.threads:
        torch.set_num_threads(job.threads)
    ids = torch.tensor(prompts(1))
    _generate(model, ids, 2, job)
    result.ready = time.time() - _process_start()
    for rows in job.rows:
        ids = torch.tensor(prompts(rows))
        pairs = [
            (_generate(model, ids, 1, job), _generate(model, ids, job.tokens + 1, job))
            for _ in range(job.rounds)
        ]
        result.first[rows] = min(first for first, _ in pairs)
        result.decode[rows] = max(rows * job.tokens / (whole - first) for first, whole in pairs)
    result.peak = _peak()
    return result


def _generate(model: Any, ids: Any, tokens: int, job: Job) -> float:
    import torch

    begin = job.clock()
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return job.clock() - begin


def peer(measure: Callable[[Any], dict[str, Any]]) -> Callable[[Job], Result]:
    """One of the peers, as the others are called."""
    return lambda job: Result(**measure(job))


ENGINES: dict[str, Callable[[Job], Result]] = {
    "generate fp32": theirs("float32"),
    "generate bf16": theirs("bfloat16"),
    "sluice fp32": ours("float32"),
    "sluice fp16": ours("float16"),
    "sluice fp16 avx2": ours("float16", "avx2"),
    "sluice bf16": ours("bfloat16"),
    "sluice int8": ours("int8"),
    **{name: peer(measure) for name, measure in PEERS.items()},
}
"""Name to function."""


def _profile(job: Job, dtype: str) -> None:
    """Print where the time of a decode step goes, for each number of rows."""
    import torch
    from sluice_worker.engines.hf import HfOptions, load
    from sluice_worker.engines.hf.batch import Span
    from torch.profiler import ProfilerActivity, profile

    engine = load(HfOptions(job.model, dtype=dtype, batch_max=max(job.rows)), lambda *news: None)
    runner = engine._runner  # noqa: SLF001 - measured below the engine's door
    assert runner is not None
    for rows in job.rows:
        spans = [Span(slot, 100, [5], True, True) for slot in range(rows)]
        with torch.inference_mode():
            for _ in range(3):
                runner.forward(spans)
            with profile(activities=[ProfilerActivity.CPU]) as trace:
                for _ in range(5):
                    runner.forward(spans)
        table = trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=14)
        print(f"--- {dtype}, {rows} rows, 5 steps\n{table}", file=sys.stderr)


def _process_start() -> float:
    """When this process began, in seconds since 1970."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime")
    )
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _peak() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _in_a_process(name: str, job: Job) -> Result:
    fields = json.dumps({**asdict(job), "model": str(job.model)})
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # the same for all; see machine.py
    command = [sys.executable, __file__, "--only", name, "--job", fields]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return Result(note="failed")
    values = json.loads(done.stdout.splitlines()[-1])
    for key in ("decode", "first"):
        values[key] = {int(rows): value for rows, value in values[key].items()}
    return Result(**values)


def _print(results: dict[str, Result], job: Job) -> None:
    size = sum(file.stat().st_size for file in job.model.glob("*.safetensors")) / 2**20
    base = next(iter(results.values()))
    unit = "tokens per CPU second" if job.cpu_time else "tokens/s"
    print(f"\ndecode, {unit} (times {next(iter(results))}); {PROMPT}-token prompts")
    print(f"{'engine':<16}" + "".join(f"{f'{rows} rows':>16}" for rows in job.rows))
    for name, result in results.items():
        cells = ""
        for rows in job.rows:
            speed = result.decode.get(rows, 0.0)
            ratio = speed / base.decode[rows] if base.decode.get(rows) else 0.0
            cells += f"{f'{speed:.0f} ({ratio:.1f}x)':>16}"
        print(f"{name:<16}{cells}")
    print("\nprefill of all rows, s" + "".join(f"{f'{rows} rows':>16}" for rows in job.rows))
    for name, result in results.items():
        print(f"{name:<22}" + "".join(f"{result.first.get(r, 0.0):>16.2f}" for r in job.rows))
    print(f"\n{'':<16}{'ready, s':>12}{'peak RSS, MiB':>16}   (weights on disk {size:.0f} MiB)")
    for name, result in results.items():
        print(f"{name:<16}{result.ready:>12.1f}{result.peak:>16.0f}   {result.note}")


def _ours(with_peers: bool) -> list[str]:
    return [name for name in ENGINES if with_peers or name not in PEERS]


def main() -> None:
    """Measure every engine in a process of its own and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many is shown")
    parser.add_argument("--model", type=Path, help="a model directory; a random one if absent")
    parser.add_argument("--engines", default="", help="names, separated by commas; all if absent")
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--profile", action="store_true", help="show where a step's time goes")
    parser.add_argument("--threads", type=int, help="cores to use; all if absent")
    parser.add_argument(
        "--cpu-time", action="store_true", help="by processor time: for noisy machines, one thread"
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        fields = json.loads(args.job)
        job = Job(**{**fields, "model": Path(fields["model"])})
        print(json.dumps(asdict(ENGINES[args.only](job))))
        return
    rows = [int(part) for part in args.rows.split(",")]
    names = args.engines.split(",") if args.engines else _ours(args.peers)
    with random_llama.unless(args.model) as model:
        job = Job(model, rows, args.tokens, args.rounds, args.profile, args.threads, args.cpu_time)
        results = {}
        for name in names:
            print(f"measuring {name}", file=sys.stderr)
            results[name] = _in_a_process(name, job)
        _print(results, job)


if __name__ == "__main__":
    main()
