"""Reads safetensors checkpoints, one tensor at a time and without a memory map.

A map would count every page that was read towards the process's memory, and peak
memory while loading is to stay near the weights that are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sluice_worker.engines.hf.options import ModelLoadError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_HEADER_MAX = 100 * 1024 * 1024
_SAMPLES = 64
_SAMPLE_BYTES = 1024


@dataclass(frozen=True)
class _Entry:
    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Checkpoint:
    """The tensors of a model directory, by name. Raises ModelLoadError."""

    def __init__(self, model_dir: Path, on_read: Callable[[int], None] | None = None) -> None:
        """``on_read`` is told how many bytes each ``read`` read."""
        self._on_read = on_read
        self._paths = _weight_files(model_dir)
        self._entries: dict[str, _Entry] = {}
        self._digest = hashlib.sha256()
        for path in self._paths:
            self._read_header(path)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """All tensors of the checkpoint."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The extents of the tensor ``name``."""
        return self._entry(name).shape

    @property
    def bytes_total(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.end - entry.begin for entry in self._entries.values())

    def is_16_bit(self) -> bool:
        """Whether most of the weights' bytes are float16 or bfloat16."""
        sizes = {16: 0, 0: 0}
        for entry in self._entries.values():
            sizes[16 if entry.dtype in ("F16", "BF16") else 0] += entry.end - entry.begin
        return sizes[16] > sizes[0]

    def read(self, name: str) -> torch.Tensor:
        """The tensor ``name``, in the dtype that the file has."""
        entry = self._entry(name)
        tensor = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        if tensor.numel():
            target = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
            with entry.path.open("rb", buffering=0) as file:
                file.seek(entry.begin)
                _fill(file, target, entry.path)
        if self._on_read is not None:
            self._on_read(entry.end - entry.begin)
        return tensor

    def identity(self) -> str:
        """A hash of the headers, the sizes and a sample of the bytes of all files."""
        digest = self._digest.copy()
        for path in self._paths:
            size = path.stat().st_size
            with path.open("rb") as file:
                for i in range(_SAMPLES + 1):
                    file.seek(max(0, size - _SAMPLE_BYTES) * i // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ModelLoadError(
                f"the checkpoint has no tensor {name}", "download the model again, completely"
            )
        return self._entries[name]

    def _read_header(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_MAX, size):
                raise _broken(path)
            raw = file.read(length)
        self._digest.update(raw)
        self._digest.update(str(size).encode())
        try:
            header: dict[str, Any] = json.loads(raw)
            for name, fields in header.items():
                if name != "__metadata__":
                    self._entries[name] = _entry_of(path, fields, 8 + length, size)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _broken(path) from error


def _entry_of(path: Path, fields: dict[str, Any], base: int, size: int) -> _Entry:
    begin, end = (base + int(offset) for offset in fields["data_offsets"])
    shape = tuple(int(extent) for extent in fields["shape"])
    entry = _Entry(path, fields["dtype"], shape, begin, end)
    if entry.dtype not in _DTYPES:
        raise ModelLoadError(
            f"the checkpoint has weights of type {entry.dtype}",
            "use a checkpoint in float32, float16 or bfloat16",
        )
    if math.prod(shape) * _DTYPES[entry.dtype].itemsize != end - begin or end > size:
        raise ValueError("offsets do not fit the shape")
    return entry


def _weight_files(model_dir: Path) -> list[Path]:
    index = model_dir / "model.safetensors.index.json"
    single = model_dir / "model.safetensors"
    if single.is_file():  # beside an index it is the whole model, as transformers has it
        return [single]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        paths = [model_dir / name for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise ModelLoadError(
                f"weight files are missing: {', '.join(missing)}", "download the model again"
            )
        return paths
    raise ModelLoadError(
        "the model has no safetensors weights (model.safetensors)",
        "convert it to safetensors; pickled weights are not loaded",
    )


def _fill(file: Any, target: memoryview, path: Path) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            raise _broken(path)
        done += count


def _broken(path: Path) -> ModelLoadError:
    return ModelLoadError(f"{path.name} is damaged or cut short", "download the model again")
