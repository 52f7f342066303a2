"""Where the engines differ in what they make of a field: the one place for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ENFORCED = (
    "Enforced by llguidance.",
    "The same; the log-probabilities are those among the tokens that were allowed.",
)

#: By field: what hf does, and what vllm does.
DIFFERENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "seed": (
            "A draw depends on seed and position alone, whatever else is in the batch.",
            "The same draws each time; numbers, and so tokens, may depend on the batch.",
        ),
        "temperature": (
            "At 0 an answer does not depend on what else is in the batch.",
            "Numbers may depend on the batch, unless vLLM is told otherwise.",
        ),
        "response_format": _ENFORCED,
        "structured_outputs": _ENFORCED,
        "model": (
            "The model's name.",
            "The model's name, or that of an adapter (`LORA_MODULES`).",
        ),
    }
)
