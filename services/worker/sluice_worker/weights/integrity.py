"""Whether files are what they claim to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sluice_worker.weights.errors import ModelNotUsable

_PIECE = 4 << 20
_SHA256_HEX = 64
_HEADER_MAX = 100 << 20


def matches(path: Path, digest: str, on_bytes: Callable[[int], None]) -> bool:
    """Whether the file's content has ``digest``; ``on_bytes`` is told of each piece hashed.

    The digest is what the hub knows a file by: SHA-256 for large files (64 hexadecimal
    digits), git's blob id, a SHA-1 over a header and the content, for the others (40).
    """

    def pieces() -> Iterator[memoryview]:
        for piece in _pieces(path):
            on_bytes(len(piece))
            yield piece

    return digest_of(pieces(), path.stat().st_size, digest) == digest


def digest_of(pieces: Iterable[bytes | memoryview], size: int, like: str) -> str:
    """The content's digest, of the kind that ``like`` is."""
    if len(like) == _SHA256_HEX:
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(usedforsecurity=False)
        hasher.update(b"blob %d\0" % size)
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


def check_whole(model_dir: Path) -> None:
    """Raise ModelNotUsable when weights of a directory are missing or cut short.

    For files that came with no hash. A safetensors header says how long its file is, and the
    index of a sharded checkpoint names its files; a copy that was interrupted shows in both.
    """
    index = model_dir / "model.safetensors.index.json"
    if index.is_file() and not (model_dir / "model.safetensors").is_file():
        named = _named(index)
        missing = sorted(name for name in named if not (model_dir / name).is_file())
        if missing:
            raise ModelNotUsable(
                f"{len(missing)} of the model's {len(named)} weight files are missing, "
                f"{missing[0]} among them: copy or download the model again"
            )
    for path in sorted(model_dir.glob("*.safetensors")):
        expected, size = _expected_size(path), path.stat().st_size
        if size != expected:
            raise ModelNotUsable(
                f"{path.name} has {size} bytes and should have {expected}: "
                "copy or download the model again"
            )


def _named(index: Path) -> set[str]:
    """The files that an index names."""
    with _damaged(index):
        return {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}


def _expected_size(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _HEADER_MAX else b""
    with _damaged(path):
        entries: dict[str, Any] = json.loads(header)
        ends = [
            int(entry["data_offsets"][1])
            for name, entry in entries.items()
            if name != "__metadata__"
        ]
    return 8 + length + max(ends, default=0)


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Translate what reading a file's structure comes to when it has another one."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelNotUsable(
            f"{path.name} is damaged: copy or download the model again", str(error)
        ) from error
