"""The tokenizer files that a gateway needs, under the hash of their content."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.weights.errors import ModelNotUsable

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
        """The bundle of a model directory. Raises TokenizerMissing.

        An older format is converted, as transformers does it.
        """
        if (model_dir / "tokenizer.json").is_file():
            return cls._of_directory(model_dir)
        with tempfile.TemporaryDirectory(prefix="sluice-tokenizer-") as folder:
            _convert(model_dir, Path(folder))
            return cls._of_directory(Path(folder))

    @classmethod
    def _of_directory(cls, folder: Path) -> TokenizerBundle:
        present = (name for name in FILE_NAMES if (folder / name).is_file())
        return cls.of({name: (folder / name).read_bytes() for name in present})

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


def _convert(model_dir: Path, target: Path) -> None:
    """Save the tokenizer of ``model_dir`` as tokenizer.json. Raises TokenizerMissing."""
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        tokenizer.save_pretrained(target)
    except Exception as error:  # transformers raises many kinds, for many missing pieces
        raise TokenizerMissing(
            "the model has no tokenizer.json, and transformers cannot make one from what it has "
            f"({type(error).__name__}); convert it once where its tokenizer loads: "
            "AutoTokenizer.from_pretrained(path).save_pretrained(path)"
        ) from error
    if not (target / "tokenizer.json").is_file():
        raise TokenizerMissing(
            "the model's tokenizer cannot be had as tokenizer.json: choose another model"
        )
