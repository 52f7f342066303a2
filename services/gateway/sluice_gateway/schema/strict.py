"""The base of all request models: null is absence, and nothing unknown passes in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

# Error types of ours, which schema.parsing turns into OpenAI's codes.
UNSUPPORTED = "unsupported_parameter"
INVALID = "invalid_value"
INVALID_TYPE = "invalid_type"
MISSING = "missing_required_parameter"
UNKNOWN = "unknown_parameter"


def refuse(kind: str, message: str, field: str | None = None) -> NoReturn:
    """End validation with an error about ``field`` of the object at hand, or about itself."""
    # The message goes in as a value: pydantic would read braces in a template.
    raise PydanticCustomError(kind, "{message}", {"message": message, "field": field})


class Strict(BaseModel):
    """A frozen JSON object that has no field but the declared ones.

    ``unsupported`` names fields that OpenAI's or vLLM's clients know and we do not honour, each
    with the values that ask for nothing and may therefore be sent all the same.

    The first unknown name ends validation: pydantic would make an error of each of a million.
    For the same reason every list in these models has ``fail_fast``.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_what_says_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        said = {key: value for key, value in data.items() if value is not None}
        unsupported = cls.unsupported
        for name in [name for name in said if name in unsupported]:
            if not _is_one_of(said[name], unsupported[name]):
                refuse(UNSUPPORTED, _why_not(name, unsupported[name]), name)
            del said[name]
        for name in said:
            if name not in cls.model_fields:
                refuse(UNKNOWN, "Unknown parameter.", name)
        return said


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    # By type too: 0 is not false.
    return any(type(value) is type(one) and value == one for one in neutral)


def _why_not(name: str, neutral: tuple[Any, ...]) -> str:
    if neutral:
        return f"This server does not support this value of '{name}'. Leave it out."
    return f"This server does not support '{name}'. Leave it out."
