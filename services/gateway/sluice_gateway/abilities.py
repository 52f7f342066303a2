"""What a request needs of an engine that not every engine, and no older worker, can do."""

from __future__ import annotations

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import STRUCTURED_OUTPUT, ServedModel

#: The contract's later fields (see GetModelResponse.request_fields): which field of the client's
#: each comes from, and what to call it.
LATER_FIELDS = {
    "bad_words": ("bad_words", "'bad_words'"),
    "priority": ("priority", "'priority'"),
    "prompt_logprobs": ("echo", "'echo' together with 'logprobs'"),
    "thinking_budget": ("thinking_token_budget", "'thinking_token_budget'"),
}


def for_request(
    model: ServedModel, sampling: pb.SamplingParams, *, priority: int = 0
) -> ServedModel:
    """The model as a request with these parameters needs it.

    Raises InvalidRequest that names the field when its engine would ignore one.
    """
    asked = {field.name for field, _ in sampling.ListFields()} | (
        {"priority"} if priority else set()
    )
    needed = asked & {STRUCTURED_OUTPUT, *LATER_FIELDS}
    for name in sorted(needed & LATER_FIELDS.keys() - model.info.request_fields):
        param, what = LATER_FIELDS[name]
        raise InvalidRequest(
            f"The worker of the model `{model.name}` does not support {what}. Leave it out.",
            param=param,
            code="unsupported_parameter",
        )
    return model.needing(frozenset(needed))
