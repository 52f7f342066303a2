"""``python -m bench.load_client PLAN``: a closed loop of streams over raw sockets.

A process of its own, with as little work per chunk as Python allows: what it needs of the CPU is
reported, so that a client that was itself the bottleneck shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import cast

import uvloop

from bench import probe
from bench.load_plan import LoadPlan, LoadResult
from bench.processes import cpu_seconds, waiting_seconds
from bench.sse import Event, StreamReader
from bench.stats import percentile

SLICES = 5
SETTLE_SECONDS = 1.0
#: About 60 tokens: a short question.
QUESTION = (
    "Please tell me in a few plain sentences what a gateway does for language models that run "
    "on several machines, how it decides which machine gets the next request, and what becomes "
    "of the requests of a machine that is lost while it answers. Keep it short, but be exact."
)


def request_bytes(plan: LoadPlan, tokens: int) -> bytes:
    """One request for a streamed chat completion of so many tokens."""
    body = {
        "model": plan.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": 0,
    }
    payload = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {plan.gateway}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


@dataclass
class Recorder:
    """What all streams of a run did."""

    recording: bool = False
    chunks: int = 0  # with text; of the whole run
    requests: int = 0  # that are complete, and theirs:
    request_chunks: int = 0
    request_tokens: int = 0
    first_tokens: array[float] = field(default_factory=lambda: array("d"))  # seconds
    gaps: array[float] = field(default_factory=lambda: array("d"))  # seconds
    failure: Exception | None = None

    @property
    def tokens_per_chunk(self) -> float:
        """Of the complete requests: what usage told, by the chunks that came. 1 without any."""
        return self.request_tokens / self.request_chunks if self.request_chunks else 1.0


class LoadStream(asyncio.Protocol):
    """One connection that asks again as soon as an answer is complete."""

    def __init__(self, request: bytes, recorder: Recorder) -> None:
        self._request = request
        self._recorder = recorder
        self._reader = StreamReader()
        self._asked = 0.0
        self._last = 0.0
        self._chunks = 0
        self._closing = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it, unless it was our own doing."""
        if not self._closing and not self._recorder.failure:
            self._recorder.failure = exc or ConnectionResetError("the gateway closed a stream")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._closing = True
        self._transport.abort()

    def _ask(self) -> None:
        self._chunks = 0
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count, and note the time."""
        now = time.perf_counter()
        try:
            events = self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 (whatever it was ends the run, with its reason)
            self._recorder.failure = error
            self.close()
            return
        for event in events:
            if event is Event.CONTENT:
                self._note(now)
            elif event is Event.END:
                self._complete()

    def _note(self, now: float) -> None:
        recorder = self._recorder
        recorder.chunks += 1
        if recorder.recording:
            if self._chunks:
                recorder.gaps.append(now - self._last)
            else:
                recorder.first_tokens.append(now - self._asked)
        self._chunks += 1
        self._last = now

    def _complete(self) -> None:
        recorder = self._recorder
        recorder.requests += 1
        recorder.request_chunks += self._chunks
        recorder.request_tokens += self._reader.tokens
        self._ask()


@dataclass(frozen=True)
class Sample:
    """One moment of a run."""

    time: float
    gateway_cpu: float
    gateway_wait: float
    backend_cpu: float
    client_cpu: float
    chunks: int


class Run:
    """One run: streams that start one after another, a window of load, and one of probes."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._recorder = Recorder()
        self._streams: list[LoadStream] = []

    async def run(self) -> LoadResult:
        """Raises what a stream failed of."""
        plan = self._plan
        try:
            await self._ramp_up()
            await self._sleep(SETTLE_SECONDS)
            self._recorder.recording = True
            samples = [self._sample()]
            for _ in range(SLICES):
                await self._sleep(plan.seconds / SLICES)
                samples.append(self._sample())
            ours, theirs = await self._probe()
        finally:
            for stream in self._streams:
                stream.close()
        await asyncio.sleep(SETTLE_SECONDS)
        return self._result(samples, ours, theirs)

    async def _ramp_up(self) -> None:
        """Start the streams evenly over the length of one, so that their ends do not coincide."""
        plan = self._plan
        host, _, port = plan.gateway.rpartition(":")
        request = request_bytes(plan, plan.tokens)
        length = plan.tokens * plan.step_ms / 1000
        began = time.perf_counter()
        for number in range(plan.streams):
            await self._sleep(
                max(0.0, began + length * number / plan.streams - time.perf_counter())
            )
            _, stream = await asyncio.get_running_loop().create_connection(
                lambda: LoadStream(request, self._recorder), host, int(port)
            )
            self._streams.append(stream)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._recorder.failure:
            raise self._recorder.failure

    def _sample(self) -> Sample:
        plan = self._plan
        return Sample(
            time.perf_counter(),
            cpu_seconds(plan.gateway_pid),
            waiting_seconds(plan.gateway_pid),
            cpu_seconds(plan.backend_pid),
            cpu_seconds(os.getpid()),
            self._recorder.chunks,
        )

    async def _probe(self) -> tuple[list[float], list[float]]:
        """First-token times of the gateway and of the backend alone; one stream makes room."""
        plan = self._plan
        self._streams.pop().close()
        request = request_bytes(plan, 1)
        async with (
            probe.over_http(plan.gateway, request) as gateway,
            probe.direct(plan, request) as backend,
        ):
            ours, theirs = await alternate(gateway, backend, plan)
        if self._recorder.failure:
            raise self._recorder.failure
        return ours, theirs

    def _result(self, samples: list[Sample], ours: list[float], theirs: list[float]) -> LoadResult:
        recorder = self._recorder
        per_chunk = recorder.tokens_per_chunk
        first, last = samples[0], samples[-1]
        tokens = (last.chunks - first.chunks) * per_chunk
        seconds = last.time - first.time
        slices = [
            1e6
            * (after.gateway_cpu - before.gateway_cpu)
            / max(1.0, (after.chunks - before.chunks) * per_chunk)
            for before, after in pairwise(samples)
        ]
        return LoadResult(
            streams=self._plan.streams,
            requests=recorder.requests,
            tokens_per_second=tokens / seconds,
            tokens_per_chunk=per_chunk,
            gateway_us_per_token=median(slices),
            backend_us_per_token=1e6 * (last.backend_cpu - first.backend_cpu) / tokens,
            gateway_cpu_share=(last.gateway_cpu - first.gateway_cpu) / seconds,
            gateway_wait_share=(last.gateway_wait - first.gateway_wait) / seconds,
            client_cpu_share=(last.client_cpu - first.client_cpu) / seconds,
            first_token_p50=1e3 * percentile(ours, 0.5),
            first_token_p99=1e3 * percentile(ours, 0.99),
            backend_first_token_p50=1e3 * percentile(theirs, 0.5),
            backend_first_token_p99=1e3 * percentile(theirs, 0.99),
            load_first_token_p50=1e3 * percentile(recorder.first_tokens, 0.5),
            load_first_token_p99=1e3 * percentile(recorder.first_tokens, 0.99),
            gap_p50=1e3 * percentile(recorder.gaps, 0.5),
            gap_p99=1e3 * percentile(recorder.gaps, 0.99),
            gateway_us_per_token_slices=slices,
        )


async def alternate(
    gateway: probe.Ask, backend: probe.Ask, plan: LoadPlan
) -> tuple[list[float], list[float]]:
    """Probe both in turn, each at evenly spread moments of the engine's step."""
    ours: list[float] = []
    theirs: list[float] = []
    deadline = time.perf_counter() + plan.probe_seconds
    phase = 0.0
    while time.perf_counter() < deadline:
        phase = (phase + 0.618034) % 1.0  # the golden ratio: evenly spread however many there are
        for ask, times in ((backend, theirs), (gateway, ours)):
            await asyncio.sleep(phase * plan.step_ms / 1000)
            times.append(await ask())
    return ours, theirs


def main() -> int:
    """Run the plan on the command line; print the result."""
    plan = LoadPlan(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(Run(plan).run()).to_json())
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
