"""The peers of the gateway benchmark: other gateways, before a mock OpenAI server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench.mock_openai import MODEL
from bench.processes import ROOT, NotStarted, free_port, running
from bench.stacks import Options, Stack, Start, get_json, mock_backend

PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@contextlib.contextmanager
def sglang_router(options: Options) -> Iterator[Stack]:
    """SGLang's router, in Rust: one backend, round robin, all else as it comes."""
    if not PYTHON.exists():
        raise NotStarted("sglang-router is not installed: `make bench-peers` does it")
    with mock_backend(options) as (mock, backend):
        port = free_port()
        command = [str(PYTHON), "-m", "sglang_router.launch_router"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
        command += ["--worker-urls", f"http://{backend}", "--log-level", "warn"]
        command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        command += ["--worker-startup-check-interval", "1"]
        address = f"127.0.0.1:{port}"
        with running("sglang-router", command, None, options.gateway_cpus) as router:
            router.wait_until(lambda: get_json(address, "/v1/models") is not None, "model")
            yield Stack(router, mock, address, backend, False, MODEL)


#: By name, as the table shows them.
PEERS: dict[str, Start] = {"sglang-router": sglang_router}
