"""Requests, validated. What has one of these types needs no further checking of its shape."""

from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.schema.messages import Message, TextPart, ToolCall
from sluice_gateway.schema.parsing import parse
from sluice_gateway.schema.sampling import SamplingRequest, StreamOptions
from sluice_gateway.schema.tokenize import DetokenizeRequest, TokenizeRequest

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "DetokenizeRequest",
    "Message",
    "SamplingRequest",
    "StreamOptions",
    "TextPart",
    "TokenizeRequest",
    "ToolCall",
    "parse",
]
