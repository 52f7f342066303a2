"""Rules about several fields of one object, as JSON Schema.

The models' validators have the last word; what they can check and a schema cannot is left to
them. No rule says "not" or "if", and there are few: what makes requests from the document
multiplies them out (schemathesis gives an object of five such rules up), and knows those words
least.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Json = dict[str, Any]

_NULL: Json = {"type": "null"}
_POSITIVE: Json = {"type": ["integer", "null"], "minimum": 1}
_TRUE: Json = {"const": True}
_SOME: Json = {"type": "array", "minItems": 1}


def _only(name: str, shape: Json) -> Json:
    """What an object fulfils whose field is absent or of that shape."""
    return {"properties": {name: shape}}


def _with(name: str, shape: Json) -> Json:
    """What an object fulfils that has the field, in that shape."""
    return {"required": [name], **_only(name, shape)}


def _either(*rules: Json) -> Json:
    return {"anyOf": list(rules)}


_STREAM = _either(_only("stream_options", _NULL), _with("stream", _TRUE))
_TEXT = _either(_NULL, _with("type", {"const": "text"}))
_FORM = _either(_only("structured_outputs", _NULL), _only("response_format", _TEXT))
_TOOLS = _either(
    {"properties": {"tool_choice": {"enum": ["none", "auto", None]}, "parallel_tool_calls": _NULL}},
    _with("tools", _SOME),
)

_ONE_OF = {
    "json": {"type": ["object", "string"]},
    "regex": {"type": "string"},
    "choice": {"type": "array"},
    "grammar": {"type": "string"},
}

#: By the name of the object. Each of an object's rules has to be kept.
RULES: Mapping[str, tuple[Json, ...]] = MappingProxyType(
    {
        "ChatRequest": (
            _STREAM,
            _FORM,
            _TOOLS,
            _either(_only("top_logprobs", _NULL), _with("logprobs", _TRUE)),
        ),
        "CompletionRequest": (
            _STREAM,
            _FORM,
            _either(_only("max_tokens", _POSITIVE), _with("echo", _TRUE)),
        ),
        "TokenizeRequest": (
            _TOOLS,
            _either(
                {
                    "required": ["prompt"],
                    "properties": {"prompt": {"type": "string"}, "messages": {"maxItems": 0}},
                },
                {"required": ["messages"], "properties": {"messages": _SOME, "prompt": _NULL}},
            ),
        ),
        "StructuredOutputs": (
            _either(
                *(
                    {
                        "required": [name],
                        "properties": {
                            other: shape if other == name else _NULL for other in _ONE_OF
                        },
                    }
                    for name, shape in _ONE_OF.items()
                )
            ),
        ),
    }
)
