"""OpenAI's stream and answer objects with nothing optional that a client relies on.

They are the types of the document at /openapi.json.
"""

from __future__ import annotations

from sluice_gateway.openapi.answers import ChatChunk, CompletionChunk, WholeChat, WholeCompletion

__all__ = ["ChatChunk", "CompletionChunk", "WholeChat", "WholeCompletion"]
