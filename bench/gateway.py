"""``python bench/gateway.py``: what the gateway costs per streamed token, as a table.

A closed loop of streams against real processes: a gateway, a worker with the fake engine (no
model, one token for every row each 20 ms) and a light load client. See bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pstats
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load_plan import LoadPlan, LoadResult
from bench.peers_gateway import PEERS
from bench.processes import Memory, NotStarted, end_on_signals, memory, running
from bench.stacks import Options, Start, cpus_apart, profile_file, sluice
from bench.stats import figure, table

#: A machine on which the gateway waits for its core more than this is too busy for its times.
BUSY_MACHINE = 0.1
#: A client that needs more of its core than this may be what is measured.
BUSY_CLIENT = 0.7
HEADER = (
    "gateway", "streams", "tokens/s", "CPU µs/token", "backend's", "first token p50", "p99",
    "added p50", "between p50", "p99", "peak MiB", "end MiB", "CPU wait", "client CPU",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    gateway: str
    load: LoadResult
    memory: Memory

    def cells(self) -> list[str]:
        """As the table shows it. Times in milliseconds."""
        load = self.load
        added = load.first_token_p50 - load.backend_first_token_p50
        times = (load.first_token_p50, load.first_token_p99, added, load.gap_p50, load.gap_p99)
        return [
            self.gateway,
            str(load.streams),
            figure(load.tokens_per_second),
            figure(load.gateway_us_per_token, 1),
            figure(load.backend_us_per_token, 1),
            *[figure(value, 1) for value in times],
            figure(self.memory.peak / 2**20),
            figure(self.memory.resident / 2**20),
            f"{load.gateway_wait_share:.0%}",
            f"{load.client_cpu_share:.0%}",
        ]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", default="1,16,64,256", help="a comma list")
    parser.add_argument("--tokens", type=int, default=200, help="of each request")
    parser.add_argument("--step-ms", type=float, default=20.0, help="of the engine")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the steady window")
    parser.add_argument("--probe-seconds", type=float, default=6.0, help="for first tokens")
    parser.add_argument("--model", default="demo", help="MODEL_ID whose tokenizer is used")
    parser.add_argument("--peers", action="store_true", help="other gateways beside")
    parser.add_argument(
        "--pin", action="store_true", help="the gateway on one core, the rest on others"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--profile", action="store_true", help="profile the gateway instead")
    return parser.parse_args()


def measure(name: str, start: Start, options: Options, plan: LoadPlan) -> Row:
    """Start everything, run the load, stop everything. Raises NotStarted."""
    with start(options) as stack:
        plan = replace(
            plan,
            gateway=stack.gateway_address,
            backend=stack.backend_address,
            backend_is_worker=stack.backend_is_worker,
            model=stack.model,
            gateway_pid=stack.gateway.pid,
            backend_pid=stack.backend.pid,
        )
        command = [sys.executable, "-m", "bench.load_client", plan.to_json()]
        with running("load client", command, None, options.backend_cpus) as client:
            seconds = 120 + plan.seconds + plan.probe_seconds + plan.tokens * plan.step_ms / 1000
            result = client.find(r"(?m)^\{.*\}$", seconds)
            return Row(name, LoadResult(**json.loads(result[0])), memory(stack.gateway.pid))


def show_profile(options: Options, plan: LoadPlan) -> None:
    """The gateway's functions that take the most time, under one load."""
    with profile_file() as path:
        measure("sluice", sluice, replace(options, profile=path), plan)
        print(f"\n{plan.streams} streams")
        pstats.Stats(str(path)).sort_stats("tottime").print_stats(35)


def main() -> int:
    """Measure, print. 1: something did not start."""
    end_on_signals()
    given = parse_arguments()
    gateway_cpus, backend_cpus = cpus_apart() if given.pin else (None, None)
    options = Options(given.step_ms, given.model, gateway_cpus, backend_cpus)
    starts: dict[str, Start] = {"sluice": sluice, **(PEERS if given.peers else {})}
    rows: list[Row] = []
    try:
        for streams in (int(part) for part in given.streams.split(",")):
            plan = LoadPlan(
                streams=streams, tokens=given.tokens, step_ms=given.step_ms,
                seconds=given.seconds, probe_seconds=given.probe_seconds,
            )  # fmt: skip
            if given.profile:
                show_profile(options, plan)
                continue
            for name, start in starts.items():
                rows.append(measure(name, start, options, plan))
                print(f"{name}, {streams} streams: done", file=sys.stderr, flush=True)
    except NotStarted as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if rows:
            report(rows, given.json, pinned=gateway_cpus is not None)
    return 0


def report(rows: list[Row], json_file: Path | None, *, pinned: bool) -> None:
    """Print the table, and what to know of it."""
    placing = "gateway on one core, the rest on others" if pinned else "not pinned"
    print(f"\n{os.cpu_count()} cores; {placing}. Times in ms.\n")
    print(table(HEADER, [row.cells() for row in rows]))
    if any(row.load.client_cpu_share > BUSY_CLIENT for row in rows):
        print("\nThe client was busy: its own delays are in the times of those rows.")
    if any(row.load.gateway_wait_share > BUSY_MACHINE for row in rows):
        print(
            "\nThe machine was busy (CPU wait: how long the gateway was ready to run while others"
            "\nhad its core): times to first and between tokens are not the gateway's alone."
        )
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
