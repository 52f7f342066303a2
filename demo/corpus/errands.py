"""What tools on offer look like, and what a user may want of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from demo.conversation import Json

#: How many schemas are as Pydantic makes them, with a title for each key.
_TITLE_SHARE = 0.15


@dataclass(frozen=True)
class Errand:
    """One question that one call answers: its arguments, what the tool says, and the answer."""

    question: str
    arguments: Json
    reply: str
    said: str


Ask = Callable[[random.Random], Errand]
AskMany = Callable[[random.Random], tuple[str, list[Errand]]]


@dataclass(frozen=True)
class Offer:
    """A tool on offer.

    ``ask``: an errand for it. ``many``: one question that takes several calls. ``follow``:
    an errand that is understood only after another one. ``suits``: what it is for.
    """

    tool: Json
    suits: str
    ask: Ask
    many: AskMany | None = None
    follow: Ask | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        name: str = self.tool["function"]["name"]
        return name


def describe(
    rng: random.Random, name: str, about: str, properties: Json, required: Sequence[str]
) -> Json:
    """The tool as the OpenAI API has it: the same in one of the ways that clients write it."""
    titled = rng.random() < _TITLE_SHARE
    if titled:
        properties = {key: {**one, "title": key.capitalize()} for key, one in properties.items()}
    parameters: Json = {"type": "object", "properties": properties}
    if required or rng.random() < 0.5:
        parameters["required"] = list(required)
    strict = rng.random() < 0.25
    if strict or rng.random() < 0.15:
        parameters["additionalProperties"] = False
    if titled:
        parameters["title"] = name
    if rng.random() < 0.12:
        parameters = {**{k: v for k, v in parameters.items() if k != "type"}, "type": "object"}
    if titled and rng.random() < 0.5:
        parameters = {"description": about, **parameters}
    function: Json = {"name": name, "description": about, "parameters": parameters}
    if strict:
        function["strict"] = True
    roll = rng.random()
    if roll < 0.07:
        del function["description"]
    elif roll < 0.14:
        function = {"name": name, **dict(reversed(function.items()))}
    return {"type": "function", "function": function}


def text_schema(rng: random.Random, descriptions: Sequence[str], share: float = 0.5) -> Json:
    """A string, often with a description, before or after its type."""
    if rng.random() >= share:
        return {"type": "string"}
    about = rng.choice(descriptions)
    if rng.random() < 0.15:
        return {"description": about, "type": "string"}
    return {"type": "string", "description": about}


def spelled(rng: random.Random, name: str) -> str:
    """A name in snake_case as it is, or now and then in another case."""
    roll = rng.random()
    if roll > 0.14 or "_" not in name:
        return name
    first, *rest = name.split("_")
    tail = "".join(word.capitalize() for word in rest)
    return first + tail if roll < 0.07 else first.capitalize() + tail
