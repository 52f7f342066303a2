"""How long a model may reason: from the client's count to what a worker can enforce."""

from __future__ import annotations

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import Opening

FIELD = "thinking_token_budget"


def thinking_budget(
    tokens: int | None, model: ServedModel, opening: Opening
) -> pb.ThinkingBudget | None:
    """The budget in token ids. None: none was asked for, or the prompt has ended the reasoning.

    Raises InvalidRequest for a model of whose reasoning a worker could not see the end: it knows
    tokens, and text can be spelled in several.
    """
    if tokens is None:
        return None
    style = model.formats.reasoning
    if style is None:
        raise _refused(f"The model `{model.name}` has no format of reasoning.")
    begin = None if style.read is not None else _token(model, style.opening)
    end = None if style.read is not None else _token(model, style.closing)
    if begin is None or end is None:
        why = "does not begin and end its reasoning with one token each, so it cannot be cut off."
        raise _refused(f"The model `{model.name}` {why}")
    if opening is Opening.CLOSED:
        return None
    begun = opening is Opening.INSIDE
    return pb.ThinkingBudget(tokens=tokens, begin_id=begin, end_id=end, begun=begun)


def _token(model: ServedModel, mark: str) -> int | None:
    """The token that a mark is, if it is one of its own."""
    ids = [token_id for token_id, text, _ in model.tokenizer.added_tokens() if text == mark]
    return ids[0] if ids and ids[0] < model.vocab_size else None


def _refused(why: str) -> InvalidRequest:
    message = f"{why} Leave '{FIELD}' out."
    return InvalidRequest(message, param=FIELD, code="unsupported_parameter")
