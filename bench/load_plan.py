"""What the load client is told, and what it tells back: JSON in both directions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LoadPlan:
    """One row of the table."""

    streams: int
    tokens: int = 200
    step_ms: float = 20.0
    seconds: float = 10.0
    probe_seconds: float = 6.0
    # Known once the processes run:
    gateway: str = ""  # HOST:PORT of what is measured
    backend: str = ""  # HOST:PORT of what it stands before
    backend_is_worker: bool = True  # a Sluice worker (gRPC), else an OpenAI server
    model: str = ""
    gateway_pid: int = 0
    backend_pid: int = 0

    def to_json(self) -> str:
        """For the client's command line."""
        return json.dumps(dataclasses.asdict(self))


@dataclass
class LoadResult:
    """What was measured. Times of first tokens and gaps are in milliseconds."""

    streams: int = 0
    requests: int = 0
    tokens_per_second: float = 0.0
    tokens_per_chunk: float = 0.0
    gateway_us_per_token: float = 0.0
    backend_us_per_token: float = 0.0
    gateway_cpu_share: float = 0.0  # of one core
    gateway_wait_share: float = 0.0  # of the time: ready to run, but others had the core
    client_cpu_share: float = 0.0  # of one core
    first_token_p50: float = 0.0  # of the probes, as is the backend's
    first_token_p99: float = 0.0
    backend_first_token_p50: float = 0.0
    backend_first_token_p99: float = 0.0
    load_first_token_p50: float = 0.0  # of the load's streams: they ask just after a step
    load_first_token_p99: float = 0.0
    gap_p50: float = 0.0
    gap_p99: float = 0.0
    gateway_us_per_token_slices: list[float] = field(default_factory=list)

    def to_json(self) -> str:
        """For the client's standard output."""
        return json.dumps(dataclasses.asdict(self))
