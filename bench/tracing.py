"""``python bench/tracing.py``: what traces cost the gateway, as a table.

The load of ``bench/gateway.py`` with traces off, with all requests traced and with a tenth of
them, before a receiver in a process of its own. Each round runs all three, so that what the
machine does meanwhile falls on all of them; the table has the medians. See bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.gateway import Row, measure
from bench.load_plan import LoadPlan
from bench.processes import NotStarted, end_on_signals, running
from bench.stacks import Options, sluice
from bench.stats import figure, table

HEADER = (
    "traces", "streams", "tokens/request", "requests/s", "spans/request",
    "CPU µs/token", "CPU µs/request", "added µs/request", "added", "CPU wait",
)  # fmt: skip

#: The share of requests that is traced. None: traces are off.
KINDS: dict[str, float | None] = {"off": None, "on": 1.0, "one of ten": 0.1}

#: Soon enough that the spans of one run are sent within it.
_SEND_MS = "1000"


@contextlib.contextmanager
def receiver(share: float | None) -> Iterator[dict[str, str]]:
    """What a gateway is told so that it traces that share, and the receiver that takes it."""
    if share is None:
        yield {}
        return
    with running("receiver", [sys.executable, "-m", "bench.otlp_sink"]) as sink:
        address = sink.find(r"listening on (127\.0\.0\.1:\d+)")[1]
        yield {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(share),
            "OTEL_BSP_SCHEDULE_DELAY": _SEND_MS,
        }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", default="8,200", help="of each request; a comma list")
    parser.add_argument("--step-ms", type=float, default=20.0, help="of the engine")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def measured(kind: str, options: Options, plan: LoadPlan) -> Row:
    """One measurement. Raises NotStarted."""
    with receiver(KINDS[kind]) as environment:
        return measure(kind, sluice, replace(options, gateway_environment=environment), plan)


def cells(kind: str, rows: list[Row], tokens: int, off: float) -> list[str]:
    """The table's line of one kind. ``off``: CPU µs per request without traces."""
    per_token = statistics.median(row.load.gateway_us_per_token for row in rows)
    tokens_per_second = statistics.median(row.load.tokens_per_second for row in rows)
    per_request = per_token * tokens
    share = KINDS[kind] or 0.0
    return [
        kind,
        str(rows[0].load.streams),
        str(tokens),
        figure(tokens_per_second / tokens, 1),
        figure(3 * share, 1),  # its own, prepare, generate
        figure(per_token, 1),
        figure(per_request),
        figure(per_request - off),
        f"{per_request / off - 1:+.1%}",
        f"{statistics.median(row.load.gateway_wait_share for row in rows):.0%}",
    ]


def main() -> int:
    """Measure, print. 1: something did not start."""
    end_on_signals()
    given = parse_arguments()
    options = Options(given.step_ms)
    lines: list[list[str]] = []
    try:
        for tokens in (int(part) for part in given.tokens.split(",")):
            plan = LoadPlan(
                streams=given.streams, tokens=tokens, step_ms=given.step_ms,
                seconds=given.seconds, probe_seconds=1.0,
            )  # fmt: skip
            rows: dict[str, list[Row]] = defaultdict(list)
            for number in range(given.rounds):
                for kind in KINDS:
                    rows[kind].append(measured(kind, options, plan))
                    print(f"{tokens} tokens, round {number + 1}, {kind}", file=sys.stderr)
            off = statistics.median(row.load.gateway_us_per_token for row in rows["off"]) * tokens
            lines += [cells(kind, rows[kind], tokens, off) for kind in KINDS]
    except NotStarted as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if lines:
            print(table(HEADER, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
