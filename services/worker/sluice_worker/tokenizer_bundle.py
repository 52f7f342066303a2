"""The tokenizer files that a gateway needs, under the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.worker.v1 import worker_pb2 as pb

#: Below gRPC's default message limit of 4 MiB.
PIECE_BYTES = 1 << 20

FILE_NAMES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class TokenizerMissing(Exception):
    """The model has no tokenizer that a gateway could load; the message says what to do."""


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
        """The bundle of a model directory. Raises TokenizerMissing."""
        if not (model_dir / "tokenizer.json").is_file():
            raise TokenizerMissing(
                f"{model_dir.name} has no tokenizer.json; convert its tokenizer once with "
                "transformers: AutoTokenizer.from_pretrained(path).save_pretrained(path)"
            )
        present = (name for name in FILE_NAMES if (model_dir / name).is_file())
        return cls.of({name: (model_dir / name).read_bytes() for name in present})

    def pieces(self) -> Iterator[pb.GetTokenizerResponse]:
        """The files cut for the wire; an empty file is one empty piece."""
        for name, data in self.files.items():
            for start in range(0, max(len(data), 1), PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                yield pb.GetTokenizerResponse(file_name=name, data=piece)


def generation_defaults(model_dir: Path) -> pb.GenerationDefaults:
    """The sampling defaults in generation_config.json, those that its author set.

    ``do_sample: false`` with no temperature means that the author wants greedy output in
    transformers; an API client that sends no temperature expects sampling, so it is not read.
    """
    path = model_dir / "generation_config.json"
    config: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return pb.GenerationDefaults(
        **{name: config[name] for name in names if config.get(name) is not None}
    )
