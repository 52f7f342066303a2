"""The reasoning that a model may put before what a grammar is about."""

from __future__ import annotations

from sluice_gateway.grammar.lark import SPACES, Grammar
from sluice_gateway.output.formats import harmony as gpt_oss
from sluice_gateway.output.formats.reasoning import Opening, ReasoningFormat


def thinks(style: ReasoningFormat | None, opening: Opening) -> bool:
    """Whether reasoning, or the markup of channels, may come first."""
    if style is None:
        return False
    return style.read is not None or opening is not Opening.CLOSED


def before(grammar: Grammar, style: ReasoningFormat | None, opening: Opening) -> str:
    """The expression for what may come first, "" for nothing. It may match nothing."""
    if style is None or not thinks(style, opening):
        return ""
    if style.read is not None:
        return harmony_analysis(grammar)
    if opening is Opening.INSIDE:
        return f"{grammar.text_to(style.closing)} {grammar.terminal(SPACES)}?"
    return f"({opened(grammar, style)})?"


def opened(grammar: Grammar, style: ReasoningFormat) -> str:
    """Reasoning with the mark before it, and the whitespace after it."""
    thought = f"{grammar.mark(style.opening)} {grammar.text_to(style.closing)}"
    return f"{thought} {grammar.terminal(SPACES)}?"


def harmony_analysis(grammar: Grammar) -> str:
    """Any number of harmony's messages in the channel of reasoning."""
    return f"({_harmony_message(grammar, 'analysis')})*"


def harmony_preamble(grammar: Grammar) -> str:
    """What a model may say before it calls a tool."""
    return f"({_harmony_message(grammar, 'commentary')})?"


def harmony_final(grammar: Grammar, *, json: bool = False) -> str:
    """The header of the message that is the answer."""
    parts = (" ", gpt_oss.CONSTRAIN, "json") if json else ()
    return grammar.sequence(gpt_oss.CHANNEL, "final", *parts, gpt_oss.MESSAGE)


def _harmony_message(grammar: Grammar, channel: str) -> str:
    head = grammar.sequence(gpt_oss.CHANNEL, channel, gpt_oss.MESSAGE)
    tail = grammar.sequence(gpt_oss.START, "assistant")
    return f"{head} {grammar.text_to(gpt_oss.END)} {tail}"
