"""The tokenizer files that a gateway needs, under the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.tokenizer_formats import TokenizerMissing, convert
from sluice_worker.weights.errors import ModelNotUsable

__all__ = ["TokenizerBundle", "TokenizerMissing", "generation_defaults"]

#: Below gRPC's default message limit of 4 MiB.
PIECE_BYTES = 1 << 20

FILE_NAMES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class TokenizerBundle:
    """Tokenizer files by name, and the hash that names them as a whole."""

    files: Mapping[str, bytes]
    hash: str

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> TokenizerBundle:
        """A bundle of ``files``; the hash covers names and content."""
        digest = hashlib.sha256()
        for name, data in sorted(files.items()):
            digest.update(f"{name}\0{len(data)}\0".encode())
            digest.update(data)
        return cls(dict(files), digest.hexdigest())

    @classmethod
    def read(cls, model_dir: Path) -> TokenizerBundle:
        """The bundle of a model directory. Raises TokenizerMissing.

        Another format than tokenizer.json is converted, where that is exact.
        """
        present = (name for name in FILE_NAMES if (model_dir / name).is_file())
        files = {name: (model_dir / name).read_bytes() for name in present}
        if "tokenizer.json" not in files:
            files |= convert(model_dir)
        return cls.of(_with_template(files, model_dir / "chat_template.json"))

    def pieces(self) -> Iterator[pb.GetTokenizerResponse]:
        """The files cut for the wire; an empty file is one empty piece."""
        for name, data in self.files.items():
            for start in range(0, max(len(data), 1), PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                yield pb.GetTokenizerResponse(file_name=name, data=piece)


def generation_defaults(model_dir: Path) -> pb.GenerationDefaults:
    """The sampling defaults in generation_config.json, those that its author set.

    Raises ModelNotUsable for one that cannot be read.

    ``do_sample: false`` with no temperature means that the author wants greedy output in
    transformers; an API client that sends no temperature expects sampling, so it is not read.
    """
    path = model_dir / "generation_config.json"
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    try:
        config: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
        return pb.GenerationDefaults(
            **{name: config[name] for name in names if config.get(name) is not None}
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelNotUsable(
            f"{path.name} is damaged, or has a value of the wrong kind: correct it, or download "
            "the model again",
            str(error),
        ) from error


def _with_template(files: dict[str, bytes], older: Path) -> dict[str, bytes]:
    """The files, with the chat template from where some models have it, if it is nowhere else."""
    if "chat_template.jinja" in files or not older.is_file():
        return files
    try:
        config = json.loads(files.get("tokenizer_config.json", b"{}"))
        template = json.loads(older.read_bytes()).get("chat_template")
    except (ValueError, AttributeError, RecursionError):
        return files  # a gateway says of a broken config what is wrong with it
    if config.get("chat_template") or not isinstance(template, str):
        return files
    return {**files, "chat_template.jinja": template.encode()}
