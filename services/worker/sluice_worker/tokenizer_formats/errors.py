"""Why a model's tokenizer cannot be sent to gateways."""

from __future__ import annotations

#: What helps whatever the reason is.
REMEDY = (
    "add a tokenizer.json to the model (its author's, or one that you made and checked where its "
    "tokenizer loads), or choose another model"
)


class TokenizerMissing(Exception):
    """The model has no tokenizer that a gateway could load; the message says what to do."""


def not_convertible(name: str, reason: str) -> TokenizerMissing:
    """The refusal to convert the file ``name``."""
    return TokenizerMissing(
        f"the model has no tokenizer.json, and its {name} cannot be made one: {reason}; {REMEDY}"
    )
