"""A message's schema: which fields it may have depends on who speaks."""

from __future__ import annotations

from typing import Any

from sluice_gateway.schema.messages import ROLE_OF

_INSTRUCTING = ["system", "developer", "user"]


def by_role(flat: dict[str, Any]) -> dict[str, Any]:
    """One schema for each kind of role, of one that has the fields of all."""
    says: list[dict[str, Any]] = [
        {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
        {
            "required": ["tool_calls"],
            "properties": {"tool_calls": {"type": "array", "minItems": 1}},
        },
        {"required": ["refusal"], "properties": {"refusal": {"type": "string"}}},
    ]
    return {
        "description": flat["description"],
        "oneOf": [
            _of(flat, "Instructions, or what a user says.", _INSTRUCTING, "content"),
            {**_of(flat, "What the assistant said.", ["assistant"]), "anyOf": says},
            _of(flat, "What a tool answered.", ["tool"], "content", "tool_call_id"),
        ],
    }


def _of(flat: dict[str, Any], title: str, roles: list[str], *needed: str) -> dict[str, Any]:
    properties = {
        name: value if ROLE_OF.get(name, roles[0]) in roles else {"type": "null"}
        for name, value in flat["properties"].items()
    }
    properties |= {name: _not_null(properties[name]) for name in needed}
    properties["role"] = {**properties["role"], "enum": roles}
    return {
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "required": ["role", *needed],
        "properties": properties,
    }


def _not_null(value: dict[str, Any]) -> dict[str, Any]:
    branches = [each for each in value["anyOf"] if each != {"type": "null"}]
    return {**value, "anyOf": branches}
