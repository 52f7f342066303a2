"""How far vLLM has read a model's weights: told by its processes, for they do the reading.

vLLM lets a plugin (``plugin.py``) put a loader of its own in the place of the default one, in every
process that it starts. Ours is the default one and counts the bytes that go by, in a small file for
each process.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluice_worker.engines.vllm.load_folder import own_file

#: How the names of the counts end.
COUNT = ".count"

_COUNT = struct.Struct("<Q?")
_TELL_SECONDS = 0.1
_LOADER_NAME = "CountingLoader"
_FORMATS = ("auto", "hf", "safetensors")


def count_weights() -> None:
    """Put the counting loader in the place of vLLM's default one, in this process. Idempotent."""
    from vllm.config.load import LoadConfig
    from vllm.model_executor import model_loader

    if type(model_loader.get_model_loader(LoadConfig())).__name__ == _LOADER_NAME:
        return
    loader = _counting_loader()
    model_loader.logger.disabled = True  # it warns that the default one is replaced: so be it
    for name in _FORMATS:
        model_loader.register_model_loader(name)(loader)
    model_loader.logger.disabled = False


def _counting_loader() -> type[Any]:
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    class CountingLoader(DefaultModelLoader):  # type: ignore[misc]
        """The default loader, which tells how many bytes have gone by."""

        def get_all_weights(self, *args: Any, **options: Any) -> Generator[tuple[str, Any]]:
            with _Counter() as counter:
                for name, tensor in super().get_all_weights(*args, **options):
                    yield name, tensor
                    counter.add(tensor.nbytes)

    return CountingLoader


class _Counter:
    """Writes this process's count where the worker looks; nowhere if nobody does."""

    def __init__(self) -> None:
        path = own_file(COUNT)
        self._file = path.open("wb", 0) if path else None
        self._bytes = 0
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._tell(finished=kind is None)
            self._file.close()

    def add(self, count: int) -> None:
        """Count bytes."""
        self._bytes += count
        if self._file and time.monotonic() - self._told >= _TELL_SECONDS:
            self._tell(finished=False)

    def _tell(self, *, finished: bool) -> None:
        assert self._file
        self._told = time.monotonic()
        os.pwrite(self._file.fileno(), _COUNT.pack(self._bytes, finished), 0)


def read_counts(folder: Path) -> tuple[int, bool]:
    """Bytes that the furthest process has read, and whether all have read everything.

    Each process of a model that is shared among GPUs goes through all of the weights.
    """
    counts = []
    for path in folder.glob("*" + COUNT):
        content = path.read_bytes()
        counts.append(_COUNT.unpack(content) if len(content) == _COUNT.size else (0, False))
    return max((count for count, _ in counts), default=0), bool(counts) and all(
        finished for _, finished in counts
    )
