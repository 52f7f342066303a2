"""Hooks of schemathesis: requests get what a schema cannot know of the model that is served.

Loaded by schemathesis in its own process; SERVED_MODEL names the model. What breaks the schema
stays as it is.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

MODEL = os.environ["SERVED_MODEL"]
TOKENS = 8
#: No model of the tests has fewer tokens.
VOCABULARY = 256
INT32_MAX = 2**31 - 1

_IDS = ("tokens", "prompt", "allowed_token_ids", "stop_token_ids")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    body = case.body
    if not isinstance(body, dict):
        return
    name = body.get("model")
    if isinstance(name, str) and 0 < len(name) <= 512:
        body["model"] = MODEL
    for field in _IDS:
        if field in body:
            body[field] = _known(body[field])
    if case.path.endswith("completions"):
        _shorten(body)


def _shorten(body: dict[str, Any]) -> None:
    """Ask for few tokens: by default an answer may be as long as the context."""
    for field in ("max_tokens", "max_completion_tokens", "min_tokens"):
        value = body.get(field)
        if type(value) is int and 0 < value <= INT32_MAX:
            body[field] = TOKENS
    if body.get("max_tokens") is None:
        body["max_tokens"] = TOKENS


def _known(value: Any) -> Any:
    """Token ids that the model has, and text that has tokens, where there was either."""
    if isinstance(value, list):
        return [_known(each) for each in value]
    if type(value) is int and 0 <= value <= INT32_MAX:
        return value % VOCABULARY
    if value == "":
        return "a"
    return value
