"""Names of adapters and where each is from, as a setting has them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

_ADAPTER_NAME = re.compile(r"[\w][\w./:@+-]{0,127}")


def _parse_adapters(value: Any) -> Any:
    """``name=source,name=source`` as pairs."""
    if not isinstance(value, str):
        return value
    pairs = []
    for item in filter(None, (part.strip() for part in value.split(","))):
        name, equals, source = (part.strip() for part in item.partition("="))
        if not (equals and source and _ADAPTER_NAME.fullmatch(name)):
            raise ValueError(f"expected NAME=SOURCE, separated by commas, and found {item!r}")
        pairs.append((name, source))
    return tuple(pairs)


def _check_adapters(adapters: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    names = [name for name, _ in adapters]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the name {name} is given twice")
    return adapters


#: Names of adapters, each with a directory, ``pvc://CLAIM/PATH`` or hub id.
Adapters = Annotated[
    tuple[tuple[str, str], ...],
    NoDecode,
    BeforeValidator(_parse_adapters),
    AfterValidator(_check_adapters),
]
