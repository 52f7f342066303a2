"""Texts to be put into objects, by hand, with the JSON Schema's properties and the right object.

The keys are told to the model only where the text does so: the schema is enforced while it writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from demo.conversation import Conversation, Json, Message

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer"}
_NUMBER: Json = {"type": "number"}
_FLAG: Json = {"type": "boolean"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_WHOLES: Json = {"type": "array", "items": _WHOLE}
_EVENT = "Extract the event information."


@dataclass(frozen=True)
class RecordCase:
    """A conversation, the JSON Schema of its answer, and the answer."""

    conversation: Conversation
    schema: Json
    record: Json


def _case(system: str, text: str, **fields: tuple[Json, Any]) -> RecordCase:
    """``system``: "" for none. ``fields``: by key, the schema and the value."""
    lead = (Message("system", system),) if system else ()
    schema: Json = {
        "type": "object",
        "properties": {key: one for key, (one, _) in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
    record = {key: value for key, (_, value) in fields.items()}
    return RecordCase(Conversation((*lead, Message("user", text))), schema, record)


RECORDS = (
    _case(
        _EVENT,
        "Alice and Bob are going to a science fair on Friday.",
        name=(_TEXT, "science fair"),
        date=(_TEXT, "Friday"),
        participants=(_TEXTS, ["Alice", "Bob"]),
    ),
    _case(
        _EVENT,
        "Tomasz, Ingrid and Bob are having a street party on Sunday.",
        name=(_TEXT, "street party"),
        date=(_TEXT, "Sunday"),
        participants=(_TEXTS, ["Tomasz", "Ingrid", "Bob"]),
    ),
    _case(
        "Extract the event information.",
        "Carlos and Mia have a piano lesson on May 9.",
        name=(_TEXT, "piano lesson"),
        date=(_TEXT, "May 9"),
        participants=(_TEXTS, ["Carlos", "Mia"]),
    ),
    _case("", "Jane is 54 years old", name=(_TEXT, "Jane"), age=(_WHOLE, 54)),
    _case("", "Anna is 23 years old and 6 feet tall", name=(_TEXT, "Anna"), age=(_WHOLE, 23)),
    _case(
        "Extract the person's details.",
        "John Doe is 42 years old.",
        name=(_TEXT, "John Doe"),
        age=(_WHOLE, 42),
    ),
    _case(
        "Extract the user information.",
        "My name is Ismail Yilmaz, I am 33 years old and I live in Ankara.",
        name=(_TEXT, "Ismail Yilmaz"),
        age=(_WHOLE, 33),
        city=(_TEXT, "Ankara"),
    ),
    _case(
        "You extract people from texts.",
        "Bjorn, who is 61, lives in Gothenburg.",
        name=(_TEXT, "Bjorn"),
        age=(_WHOLE, 61),
        city=(_TEXT, "Gothenburg"),
    ),
    _case(
        "",
        "Extract the person: Oluwaseun is a 28 year old engineer from Lagos.",
        name=(_TEXT, "Oluwaseun"),
        age=(_WHOLE, 28),
        city=(_TEXT, "Lagos"),
    ),
    _case(
        "",
        "Kyoto is a city in Japan.",
        city=(_TEXT, "Kyoto"),
        country=(_TEXT, "Japan"),
    ),
    _case(
        "",
        "Extract the city and the country: I spent my holidays in Seville, Spain.",
        city=(_TEXT, "Seville"),
        country=(_TEXT, "Spain"),
    ),
    _case("", "Tell me about Paris.", city=(_TEXT, "Paris"), country=(_TEXT, "France")),
    _case(
        "Extract the order.",
        "I would like to order 4 chairs for 120 dollars.",
        item=(_TEXT, "chairs"),
        quantity=(_WHOLE, 4),
        price=(_NUMBER, 120),
    ),
    _case(
        "Extract the product information.",
        "The toaster costs $24.99 and is in stock.",
        product=(_TEXT, "toaster"),
        price=(_NUMBER, 24.99),
        in_stock=(_FLAG, True),
    ),
    _case(
        "Extract the product information.",
        "The bookshelf costs 80 dollars and is sold out.",
        product=(_TEXT, "bookshelf"),
        price=(_NUMBER, 80),
        in_stock=(_FLAG, False),
    ),
    _case(
        "Extract the items.",
        "Please buy milk, rice and bananas.",
        items=(_TEXTS, ["milk", "rice", "bananas"]),
    ),
    _case(
        "Extract the numbers.",
        "My lucky numbers are 4, 17 and 39.",
        numbers=(_WHOLES, [4, 17, 39]),
    ),
    _case(
        "Classify the sentiment.",
        "I love this phone!",
        sentiment=({"type": "string", "enum": ["positive", "negative"]}, "positive"),
    ),
    _case(
        "Classify the sentiment of the review.",
        "This is the worst film ever.",
        sentiment=({"type": "string", "enum": ["positive", "negative"]}, "negative"),
    ),
    _case(
        "Extract the task.",
        "Fix the elevator with high priority.",
        priority=({"type": "string", "enum": ["low", "medium", "high"]}, "high"),
    ),
    _case(
        "Answer in JSON with the keys title, author and year.",
        "The Trial was written by Franz Kafka in 1925.",
        title=(_TEXT, "The Trial"),
        author=(_TEXT, "Franz Kafka"),
        year=(_WHOLE, 1925),
    ),
    _case(
        "Extract the flight.",
        "Book a flight from Lisbon to Antwerp on Monday.",
        origin=(_TEXT, "Lisbon"),
        destination=(_TEXT, "Antwerp"),
        date=(_TEXT, "Monday"),
    ),
    _case("", "What is the capital of France? Answer in JSON.", capital=(_TEXT, "Paris")),
    _case(
        "Extract the contact.",
        "You can reach Marta at marta@example.org.",
        name=(_TEXT, "Marta"),
        email=(_TEXT, "marta@example.org"),
    ),
)
