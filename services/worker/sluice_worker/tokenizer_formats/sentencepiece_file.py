"""sentencepiece's model file: a protobuf message, of which we read what encoding needs.

The fields are those of sentencepiece_model.proto. They are declared here in a pool of their own:
the library's generated module would clash with the copy in transformers, and is not everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "sluice.sentencepiece"
#: Enums are read as numbers: on the wire they are the same.
_MESSAGES: dict[str, tuple[tuple[str, int, Any, str], ...]] = {
    "Piece": (
        ("piece", 1, _FIELD.TYPE_STRING, ""),
        ("score", 2, _FIELD.TYPE_FLOAT, ""),
        ("type", 3, _FIELD.TYPE_INT32, "1"),
    ),
    "Trainer": (
        ("model_type", 3, _FIELD.TYPE_INT32, "1"),
        ("treat_whitespace_as_suffix", 24, _FIELD.TYPE_BOOL, "false"),
        ("byte_fallback", 35, _FIELD.TYPE_BOOL, "false"),
        ("bos_piece", 46, _FIELD.TYPE_STRING, "<s>"),
        ("eos_piece", 47, _FIELD.TYPE_STRING, "</s>"),
    ),
    "Normalizer": (
        ("precompiled_charsmap", 2, _FIELD.TYPE_BYTES, ""),
        ("add_dummy_prefix", 3, _FIELD.TYPE_BOOL, "true"),
        ("remove_extra_whitespaces", 4, _FIELD.TYPE_BOOL, "true"),
        ("escape_whitespaces", 5, _FIELD.TYPE_BOOL, "true"),
    ),
}


class PieceType(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelType(IntEnum):
    """How a text is cut into pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the vocabulary; its id is its place."""

    text: str
    score: float
    type: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A model as its file describes it. ``charsmap``: the normalization's table, if any."""

    pieces: tuple[Piece, ...]
    type: int
    byte_fallback: bool
    whitespace_as_suffix: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool
    bos: str
    eos: str

    @classmethod
    def parse(cls, data: bytes) -> SentencePieceModel:
        """Raises ValueError if the data is no such model."""
        message = _parsed(data)
        if not message.pieces:
            raise ValueError("it holds no pieces")
        trainer, normalizer = message.trainer, message.normalizer
        return cls(
            tuple(Piece(each.piece, each.score, each.type) for each in message.pieces),
            trainer.model_type,
            trainer.byte_fallback,
            trainer.treat_whitespace_as_suffix,
            normalizer.precompiled_charsmap,
            normalizer.add_dummy_prefix,
            normalizer.remove_extra_whitespaces,
            normalizer.escape_whitespaces,
            trainer.bos_piece,
            trainer.eos_piece,
        )

    def of_type(self, kind: PieceType) -> dict[int, Piece]:
        """The pieces of one kind, by id."""
        return {place: piece for place, piece in enumerate(self.pieces) if piece.type == kind}


def with_dummy_prefix(data: bytes, wanted: bool) -> bytes:
    """The model file with that switch set."""
    message = _parsed(data)
    message.normalizer.add_dummy_prefix = wanted
    return bytes(message.SerializeToString())


def _parsed(data: bytes) -> Any:
    try:
        return _model_class().FromString(data)
    except DecodeError as error:
        raise ValueError("it is no protobuf message") from error


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="sluice/sentencepiece.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, default in fields:
            added = message.field.add(
                name=field, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL
            )
            if default:
                added.default_value = default
    model = file.message_type.add(name="Model")
    for field, number, of in (
        ("pieces", 1, "Piece"), ("trainer", 2, "Trainer"), ("normalizer", 3, "Normalizer"),
    ):  # fmt: skip
        model.field.add(
            name=field,
            number=number,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.{of}",
            label=_FIELD.LABEL_REPEATED if of == "Piece" else _FIELD.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
