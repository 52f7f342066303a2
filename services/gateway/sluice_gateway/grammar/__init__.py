"""What a worker is told that an answer must be: grammars for calls of tools, JSON and the like."""

from sluice_gateway.grammar.lark import mark_tokens
from sluice_gateway.grammar.structured import Constraint, structured_output
from sluice_gateway.grammar.tool_calls import OfferedTool, tells_calls_apart, tool_grammar

__all__ = [
    "Constraint",
    "OfferedTool",
    "mark_tokens",
    "structured_output",
    "tells_calls_apart",
    "tool_grammar",
]
