"""``python bench/metrics.py``: what metrics and the request's record cost the gateway, as a table.

They cannot be turned off, so they are timed by themselves: the calls that a token, a request and a
scrape make, in the order in which the gateway makes them, in processor time. Caches are warm here;
beside all else that a gateway does it is more. See bench/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.logs import DETAILS, LogFormat, set_up_logs
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.record import RequestRecord
from sluice_gateway.request_line import fields, message
from sluice_gateway.usage import Usage

from bench.stats import figure, table

HEADER = ("what", "of each", "CPU µs")
ROUNDS = 5
MODEL = "model"
STYLES: tuple[LogFormat, ...] = ("console", "json")

log = logging.getLogger("bench")


def microseconds(call: Callable[[], object], times: int) -> float:
    """The processor time of one call: the median of some rounds, a warm one before them."""
    rounds = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        for _ in range(times):
            call()
        rounds.append((time.process_time() - began) / times * 1e6)
    return statistics.median(rounds[1:])


def ended_request() -> RequestRecord:
    """The record of a usual request that is over."""
    record = RequestRecord("req-0123456789abcdef01234567", method="POST", model=MODEL, choices=1)
    record.route, record.status, record.stream = "/v1/chat/completions", 200, True
    record.prepared = time.perf_counter()
    record.attempt("worker-0").admit()
    record.note_first_token(pb.RowStart(row_id=1, queue_us=120, prefill_us=15_000))
    record.batch_size, record.usage = 7.5, Usage(64, 200)
    record.finish_reasons, record.ended = ("length",), time.perf_counter()
    return record


def line_of(record: RequestRecord, style: LogFormat, nowhere: TextIO) -> Callable[[], None]:
    """Writes the request's line of the log to ``nowhere``."""
    logging.getLogger().handlers.clear()
    set_up_logs("INFO", style)
    for handler in logging.getLogger().handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(nowhere)

    def write() -> None:
        log.info("%s", message(record), extra={DETAILS: fields(record)})

    return write


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=20_000, help="calls of a round")
    times = parser.parse_args().times
    metrics, record = GatewayMetrics(), ended_request()
    of_model = metrics.of_model(MODEL)

    def count_request() -> None:
        metrics.of_model(MODEL)
        with metrics.streams_active.track_inprogress():
            of_model.observe_first_token(record)
            of_model.prompt_tokens.inc(64)
            of_model.generation_tokens.inc(200)
        of_model.observe_end(record)
        of_model.success["length"].inc()
        metrics.count_http_request(record.route, record.status)

    def note_interval() -> None:
        of_model.intervals.add(time.perf_counter() - record.arrived, 1)

    with Path(os.devnull).open("w") as nowhere:
        lines = [
            (f"the log's line, {style}", "request", microseconds(line, times))
            for style in STYLES
            for line in [line_of(record, style, nowhere)]
        ]
    rows = [
        ("inter-token latency, with the clock", "token", microseconds(note_interval, times)),
        ("all counts and histograms", "request", microseconds(count_request, times)),
        ("the record", "request", microseconds(ended_request, times)),
        *lines,
        ("an exposition", "scrape", microseconds(metrics.exposition, max(1, times // 100))),
    ]
    print(table(HEADER, [[what, of, figure(cost, 2)] for what, of, cost in rows]))


if __name__ == "__main__":
    main()
