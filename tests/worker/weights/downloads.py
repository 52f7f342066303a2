"""Downloads as processes of their own, from tests/hub.py into a cache of the test's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import hub
from tests.hub import COMMIT, Hub

REPO = "org/model"
SECONDS = 60.0


class Zygote:
    """A process that forks others; one order at a time."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("zygote.py")
        self._popen = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._started: queue.Queue[int] = queue.Queue()
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def fork(
        self, arguments: list[str], environment: dict[str, str], output: Path, patches: list[str]
    ) -> int:
        order = {
            "arguments": arguments,
            "environment": environment,
            "output": str(output),
            "patches": patches,
        }
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(order).encode() + b"\n")
        self._popen.stdin.flush()
        return self._started.get(timeout=SECONDS)

    def wait(self, pid: int, seconds: float) -> int:
        with self._changed:
            if not self._changed.wait_for(lambda: pid in self._ended, seconds):
                raise TimeoutError(f"process {pid} did not end within {seconds} s")
            return self._ended[pid]

    def has_ended(self, pid: int) -> bool:
        with self._changed:
            return pid in self._ended

    def close(self) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        self._popen.wait(SECONDS)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                first, second = line.decode().split()
                if first == "started":
                    self._started.put(int(second))
                    continue
                with self._changed:
                    self._ended[int(first)] = int(second)
                    self._changed.notify_all()


@dataclass
class Run:
    """A process under way."""

    pid: int
    output: Path
    zygote: Zygote

    @property
    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS) -> int:
        try:
            return self.zygote.wait(self.pid, seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}:\n{self.text}") from None

    def wait_for(self, text: str, seconds: float = SECONDS) -> None:
        wait_until(lambda: text in self.text or self.has_ended, seconds)
        assert text in self.text, self.text

    @property
    def has_ended(self) -> bool:
        return self.zygote.has_ended(self.pid)


@dataclass
class Downloads:
    """Runs of ``python -m sluice_worker`` with one hub and one cache."""

    hub: Hub
    home: Path
    model: Path
    zygote: Zygote
    runs: list[Run] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.home / "hub" / "models--org--model"

    @property
    def snapshot(self) -> Path:
        return self.cache / "snapshots" / COMMIT

    @property
    def own(self) -> Path:
        return self.cache / ".sluice"

    def start(
        self,
        *arguments: str,
        command: str = "download",
        patches: tuple[str, ...] = (),
        **environment: str,
    ) -> Run:
        output = self.home.with_name(f"{self.home.name}-output-{len(self.runs)}")
        settings = hub.environment(self.hub, self.home, **environment)
        order = [command, *(arguments or (REPO,))]
        run = Run(self.zygote.fork(order, settings, output, list(patches)), output, self.zygote)
        self.runs.append(run)
        return run

    def succeed(self, *arguments: str, **environment: str) -> str:
        """Download; return what was printed. All that the hub has of use is there then."""
        run = self.start(*arguments, **environment)
        assert run.wait() == 0, run.text
        self.check_content()
        return run.text

    def fail(self, *arguments: str, **environment: str) -> str:
        """Download in vain; return the reason, which is one line."""
        run = self.start(*arguments, **environment)
        assert run.wait() == 1, run.text
        reasons = [line for line in run.text.splitlines() if line.startswith("sluice_worker: ")]
        assert len(reasons) == 1, run.text
        assert "Traceback" not in run.text, run.text
        self.check_published()
        return reasons[0].removeprefix("sluice_worker: ")

    def check_content(self) -> None:
        """Each file of the snapshot is there, and is what the hub's is."""
        assert self.snapshot.is_dir()
        names = {path.name for path in self.snapshot.iterdir() if not path.name.startswith(".")}
        assert "config.json" in names
        self.check_published()

    def check_published(self) -> None:
        """What is in the snapshot and in the blobs is right: nothing else may be loaded."""
        for path in self.snapshot.glob("[!.]*"):
            if path.exists():  # it may be replaced just now
                assert _hash(path) == _hash(self.model / path.name), path
        digests = {digest for path in self.model.iterdir() for digest in digests_of(path)}
        for path in self.cache.glob("blobs/*"):
            if path.suffix != ".incomplete":
                assert path.name in digests_of(path), path
                assert path.name in digests, path

    def partials(self) -> list[Path]:
        return sorted(self.own.glob("partial/*"))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests_of(path: Path) -> tuple[str, str]:
    """By SHA-256, and as a git blob."""
    data = path.read_bytes()
    return (
        hashlib.sha256(data).hexdigest(),
        hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
    )


def wait_until(true: object, seconds: float = SECONDS) -> None:
    """Poll until ``true()``; generous, for the machine may be busy."""
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def safetensors(size: int, seed: int = 0) -> bytes:
    """A well-formed file of ``size`` bytes, with one tensor of noise."""
    import random

    length = 128
    entry = {"dtype": "U8", "shape": [size - 8 - length], "data_offsets": [0, size - 8 - length]}
    header = json.dumps({"noise": entry}).encode().ljust(length)
    noise = random.Random(seed).randbytes(size - 8 - length)
    return length.to_bytes(8, "little") + header + noise


def write_model(folder: Path, *sizes: int) -> Path:
    """A model of one weight file, or of as many shards as there are sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "README.md").write_text("not needed")
    if len(sizes) == 1:
        (folder / "model.safetensors").write_bytes(safetensors(sizes[0]))
        return folder
    names = [f"model-{i + 1:05}-of-{len(sizes):05}.safetensors" for i in range(len(sizes))]
    for seed, (name, size) in enumerate(zip(names, sizes, strict=True)):
        (folder / name).write_bytes(safetensors(size, seed))
    index = {"weight_map": {f"tensor.{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@contextlib.contextmanager
def downloading(folder: Path, zygote: Zygote, *sizes: int) -> Iterator[Downloads]:
    """A hub with a model, and an empty cache."""
    model = write_model(folder / "model", *(sizes or (400_000,)))
    with hub.serving({REPO: model}) as served:
        downloads = Downloads(served, folder / "home", model, zygote)
        try:
            yield downloads
        finally:
            for run in downloads.runs:
                run.kill()
            for run in downloads.runs:
                run.wait()
