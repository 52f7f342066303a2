"""Reads a stream as a strict client does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

Json = dict[str, Any]


def events(lines: Iterator[str]) -> Iterator[Json | str]:
    """Each event's JSON, comments as strings (``: ...``); ends after [DONE], which must come."""
    for line in lines:
        if line.startswith(":"):
            yield line
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                assert not [rest for rest in lines if rest], "something followed [DONE]"
                return
            yield json.loads(data)
        else:
            assert not line, f"not an event: {line!r}"
    raise AssertionError("the stream ended without [DONE]")


def stream(url: str, body: Json, **options: Any) -> Iterator[Json]:
    """The chunks of a streamed answer, comments left out."""
    body = {"stream": True, **body}
    with httpx.stream("POST", url, json=body, timeout=60, **options) as response:
        if response.status_code != 200:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in events(response.iter_lines()):
            if not isinstance(event, str):
                yield event


def chat(content: str = "hi", **fields: Any) -> Json:
    return {"messages": [{"role": "user", "content": content}], **fields}


def chat_text(chunks: list[Json], index: int = 0) -> str:
    """The text of one choice."""
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk.get("choices", ())
        if choice["index"] == index
    )


def finish_reasons(chunks: list[Json]) -> dict[int, str]:
    """The finish reason of each choice; each must have come once."""
    found: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            if choice["finish_reason"] is not None:
                assert choice["index"] not in found
                found[choice["index"]] = choice["finish_reason"]
    return found


def error_of(chunks: list[Json]) -> Json | None:
    """The error event, which must be the last one, or None."""
    errors = [number for number, chunk in enumerate(chunks) if "error" in chunk]
    assert errors in ([], [len(chunks) - 1])
    error: Json | None = chunks[-1]["error"] if errors else None
    return error
