"""Log-probabilities in OpenAI's two shapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sluice_gateway.output.logprobs import EncodedLogprobs, TokenLogprob

_json = json.JSONEncoder(separators=(",", ":")).encode


def chat_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The ``logprobs`` of a chat choice."""
    content = [
        {
            **_token(entry.raw, entry.logprob),
            "top_logprobs": [_token(top.raw, top.logprob) for top in entry.top],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """The ``logprobs`` of a completion choice. A top map also has the token itself."""
    return {
        "tokens": [_name(entry.raw) for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [_top(entry) for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def encoded(entries: Sequence[TokenLogprob]) -> EncodedLogprobs:
    """The ``logprobs`` of a part of a completion choice, of at least one token."""
    lists = completion_logprobs(entries)
    return EncodedLogprobs(**{name: _json(values)[1:-1] for name, values in lists.items()})


def joined(parts: Sequence[EncodedLogprobs]) -> EncodedLogprobs:
    """The parts one after the other."""
    return EncodedLogprobs(
        *(",".join(getattr(part, name) for part in parts) for name in EncodedLogprobs.__slots__)
    )


def written(logprobs: EncodedLogprobs) -> str:
    """The JSON of a completion choice's ``logprobs``."""
    lists = (f'"{name}":[{getattr(logprobs, name)}]' for name in EncodedLogprobs.__slots__)
    return f"{{{','.join(lists)}}}"


def _token(raw: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}


def _top(entry: TokenLogprob) -> dict[str, float] | None:
    if entry.logprob is None:
        return None
    top = {_name(one.raw): one.logprob for one in entry.top}
    return {**top, _name(entry.raw): entry.logprob}


def _name(raw: bytes) -> str:
    """The token as text; one that is no text by its bytes, as OpenAI names it.

    As U+FFFD several of them would be one key of a map.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
