"""JSON Schemas that clients send: bounded here, understood by the engines."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator

from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, refuse

SCHEMA_BYTES_MAX = 64 << 10
SCHEMA_DEPTH_MAX = 32
SCHEMA_NODES_MAX = 10_000


def size_of(schema: Any) -> int:
    """Bytes of the schema as JSON."""
    return len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())


def _bounded(value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(INVALID_TYPE, "Expected a JSON Schema, which is an object.")
    level, depth, nodes = [value], 0, 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > SCHEMA_DEPTH_MAX:
            refuse(INVALID, f"Expected a schema nested at most {SCHEMA_DEPTH_MAX} deep.")
        if nodes > SCHEMA_NODES_MAX:
            refuse(INVALID, f"Expected a schema of at most {SCHEMA_NODES_MAX} objects and lists.")
        level = [child for parent in level for child in _children(parent)]
    if size_of(value) > SCHEMA_BYTES_MAX:
        refuse(INVALID, f"Expected a schema of at most {SCHEMA_BYTES_MAX} bytes.")
    return value


def _children(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value
    return [child for child in inside if isinstance(child, (dict, list))]


JsonSchema = Annotated[dict[str, Any], BeforeValidator(_bounded)]
