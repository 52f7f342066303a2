"""The peers of the engine benchmark: llama.cpp, with the same random weights.

``PEERS`` maps a name to what measures it: from the engine benchmark's job to the fields of its
result.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class Job(Protocol):
    """What is to be measured, as the engine benchmark tells it."""

    @property
    def model(self) -> Path:
        """Directory of the transformers model."""

    @property
    def rows(self) -> Sequence[int]:
        """Batch sizes."""

    @property
    def tokens(self) -> int:
        """Decode steps."""

    @property
    def rounds(self) -> int:
        """The best of so many is told."""

    @property
    def threads(self) -> int | None:
        """None: one for each core."""

    @property
    def cpu_time(self) -> bool:
        """Whether speeds are by processor time, not by the clock."""


#: A job to decode, first, ready, peak and note.
Measure = Callable[[Job], dict[str, Any]]


class NotInstalled(Exception):
    """The peers' virtual environment is not there."""


def llama_cpp(kind: str, job: Job) -> dict[str, Any]:
    """llama.cpp, its weights as ``kind``. Raises NotInstalled."""
    if not PYTHON.exists():
        raise NotInstalled("the peers are not installed: `make bench-peers` does it")
    options: list[object] = ["--rows", ",".join(map(str, job.rows)), "--steps", job.tokens]
    options += ["--rounds", job.rounds]
    options += ["--threads", job.threads] if job.threads else []
    options += ["--cpu-time"] if job.cpu_time else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{kind}.gguf"
        _run("bench.gguf_export", job.model, file, "--type", kind)
        output = _run("bench.llama_cpp_run", file, *options, "--started", time.time())
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    for key in ("decode", "first"):
        result[key] = {int(count): value for count, value in result[key].items()}
    return result


def _run(module: str, *arguments: object) -> str:
    command = [str(PYTHON), "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


PEERS: dict[str, Measure] = {
    "llama.cpp f16": partial(llama_cpp, "f16"),
    "llama.cpp q8_0": partial(llama_cpp, "q8_0"),
}
