"""The responses of an operation: answers, errors, and their headers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from sluice_gateway.errors import ApiError
from sluice_gateway.metrics import MEDIA_TYPES
from sluice_gateway.openapi.answers import Answer
from sluice_gateway.openapi.codes import CODES
from sluice_gateway.openapi.operations import Operation
from sluice_gateway.openapi.states import Error

Json = dict[str, Any]

#: What the server answers before a request has a route, or an id: as plain text.
_NO_HTTP = {
    "400": "It is no HTTP.",
    "408": "The head did not come within 15 s.",
    "431": "The head is larger than 64 KiB.",
}

_RETRY_AFTER: Json = {
    "description": "Seconds after which to ask again.",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS: dict[int, dict[str, Json]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"const": "Bearer"}}},
    408: {"connection": {"description": "`close`.", "schema": {"type": "string"}}},
    413: {"connection": {"description": "`close`.", "schema": {"type": "string"}}},
    429: {"Retry-After": _RETRY_AFTER},
    503: {
        "Retry-After": _RETRY_AFTER,
        "x-should-retry": {
            "description": "`false` where nothing mends soon: the SDKs then do not try again.",
            "schema": {"const": "false"},
        },
    },
}
_STREAM_HEADERS: dict[str, Json] = {
    "cache-control": {"description": "Of a stream.", "schema": {"type": "string"}},
    "x-accel-buffering": {"description": "Of a stream.", "schema": {"type": "string"}},
}
_REQUEST_ID: Json = {"$ref": "#/components/headers/RequestId"}


def responses(operation: Operation, *, keys: bool) -> dict[str, Json]:
    """All responses, by status; ``keys``: whether the gateway asks for keys."""
    found: dict[str, Json] = {}
    for status, answer in operation.answers.items():
        found[str(status)] = _answer(answer, operation.chunk)
    if operation.text:
        found["200"] = _plain("The metrics.", *MEDIA_TYPES)
    if operation.page:
        found["200"] = _plain("The page.", "text/html")
        found["304"] = {"description": "It is the one that `If-None-Match` names.", "content": {}}
    if operation.document:
        content = {"application/json": {"schema": {"type": "object"}}}
        found["200"] = {"description": "The description.", "content": content}
    errors = [each for each in operation.all_errors if each.status != 401 or keys]
    for status in sorted({each.status for each in errors}):
        _add(found, str(status), _refusal(each for each in errors if each.status == status))
    for text_status, words in _NO_HTTP.items():
        _add(found, text_status, _plain(words, "text/plain"))
    for response in found.values():
        response.setdefault("headers", {})["x-request-id"] = _REQUEST_ID
    return dict(sorted(found.items()))


def _add(found: dict[str, Json], status: str, more: Json) -> None:
    """Put a response beside those of the same status, which are of other content or none."""
    before = found.setdefault(status, {"description": "", "content": {}})
    before["description"] = f"{before['description']} {more['description']}".strip()
    before["content"] = {**more["content"], **before["content"]}
    before.setdefault("headers", {}).update(more.get("headers", {}))


def _refusal(errors: Iterable[type[ApiError]]) -> Json:
    told = []
    status = 0
    for error in errors:
        status = error.status
        told += [f"`{code}`: {words}" for code, words in CODES[error].items()]
    return {
        "description": " ".join(told),
        "headers": dict(_HEADERS.get(status, {})),
        "content": {"application/json": {"schema": _ref(Error)}},
    }


def _answer(answer: type[Answer], chunk: type[Answer] | None) -> Json:
    words = (inspect.getdoc(answer) or "").splitlines()[0]
    found: Json = {
        "description": words,
        "content": {"application/json": {"schema": _ref(answer)}},
    }
    if chunk is not None:
        found["description"] += " With `stream`: server-sent events."
        found["content"]["text/event-stream"] = {"schema": _stream(chunk)}
        found["headers"] = dict(_STREAM_HEADERS)
    return found


def _stream(chunk: type[Answer]) -> Json:
    """One event of the stream: OpenAPI has a place for all events from 3.2 on only."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_ref(chunk), _ref(Error)]},
    }
    return {
        "type": "object",
        "description": "Each event: one line, `data: ` and JSON in it. The last is `[DONE]`; one"
        " before it may be an error. Comments (`: ...`) may stand between events.",
        "required": ["data"],
        "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}},
    }


def _plain(words: str, *media_types: str) -> Json:
    schema = {"schema": {"type": "string"}}
    return {"description": words, "content": dict.fromkeys(media_types, schema)}


def _ref(answer: type[Answer]) -> Json:
    return {"$ref": f"#/components/schemas/{answer.__name__}"}
