"""Ids of calls: what clients get, and what the model's template gets back."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterable, Mapping

PREFIX = "call_"
_ALPHABET = string.ascii_letters + string.digits
_NINE = re.compile(r"[A-Za-z0-9]{9}")


def random_id(model_id: str = "") -> str:
    """An id as OpenAI's are. Those that a model writes itself need not be unique."""
    del model_id
    return PREFIX + secrets.token_hex(12)


def nine_id(model_id: str = "") -> str:
    """An id for Mistral's models, which know ids of exactly nine letters and digits.

    Behind the prefix there is such an id, the model's own if it wrote one.
    """
    own = model_id if _NINE.fullmatch(model_id) else ""
    return PREFIX + (own or "".join(secrets.choice(_ALPHABET) for _ in range(9)))


def id_of_nine(call_id: str) -> str:
    """The id that a template of Mistral's takes for one that a client sent.

    Whatever it is, wherever it came from: the same id gives the same nine characters, so that a
    tool's answer still names its call.
    """
    own = call_id.removeprefix(PREFIX)
    if _NINE.fullmatch(own):
        return own
    number = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8])
    return "".join(_ALPHABET[number // 62**place % 62] for place in range(9))


def numbered_ids(calls: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The ids that a template of Kimi's takes, by those that a client sent.

    ``calls``: the id and the function's name of each call of a conversation, in order. The model
    wrote the name and a number that counts them all; what a tool answers is told by it.
    """
    return {call_id: f"functions.{name}:{number}" for number, (call_id, name) in enumerate(calls)}
