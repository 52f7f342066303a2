"""Values that sentences state and records hold, with the keys they go by."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from demo.conversation import Json
from demo.corpus.numbers import in_words
from demo.corpus.phrasebook import templates
from demo.corpus.places import city, country
from demo.corpus.words import accented, invented, name, surname

_TEMPLATES = templates("records")
TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
FLAG: Json = {"type": "boolean"}
TEXTS: Json = {"type": "array", "items": TEXT}
WHOLES: Json = {"type": "array", "items": WHOLE}


@dataclass(frozen=True)
class Stated:
    """What a sentence says in one place, and the value that this is in a record."""

    text: str
    value: Any


@dataclass(frozen=True)
class Slot:
    """A place in a sentence: the keys that its value goes by, its schema, and how it is drawn."""

    keys: tuple[str, ...]
    schema: Json
    draw: Callable[[random.Random], Stated]


def full_name(rng: random.Random) -> str:
    """A first name, often with a family name."""
    first = name(rng)
    if rng.random() < 0.05:
        first = accented(rng, first)
    return first if rng.random() < 0.55 else f"{first} {surname(rng)}"


def and_joined(rng: random.Random, texts: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(texts) == 1:
        return texts[0]
    last = rng.choice((" and ", " and ", " and ", ", and ")) if len(texts) > 2 else " and "
    return ", ".join(texts[:-1]) + last + texts[-1]


def clock(rng: random.Random) -> str:
    """A time of the day."""
    hour, minute = rng.randint(0, 23), rng.choice((0, 15, 30, 45, rng.randint(0, 59)))
    return f"{hour:02}:{minute:02}" if rng.random() < 0.6 else f"{hour % 12 + 1} {_half(rng)}"


def amount(rng: random.Random) -> float | int:
    """A price: whole, or with cents."""
    whole = rng.randint(1, rng.choice((9, 99, 999)))
    if rng.random() < 0.4:
        return whole
    return float(f"{whole}.{rng.randint(1, 99):02}".rstrip("0"))


def day(rng: random.Random) -> str:
    """A day, in words or as a date."""
    if rng.random() < 0.75:
        return rng.choice(_TEMPLATES["days"])
    return f"{rng.randint(2023, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _half(rng: random.Random) -> str:
    return rng.choice(("am", "pm", "a.m.", "p.m."))


def _plain(make: Callable[[random.Random], str]) -> Callable[[random.Random], Stated]:
    def draw(rng: random.Random) -> Stated:
        text = make(rng)
        return Stated(text, text)

    return draw


def _one(section: str) -> Callable[[random.Random], Stated]:
    return _plain(lambda rng: rng.choice(_TEMPLATES[section]))


def _whole(low: int, high: int, words_to: int = 0) -> Callable[[random.Random], Stated]:
    """A whole number in digits; up to ``words_to`` often in words."""

    def draw(rng: random.Random) -> Stated:
        value = rng.randint(low, high)
        worded = 0 < value <= words_to and rng.random() < 0.5
        return Stated(in_words(value) if worded else str(value), value)

    return draw


def _price(rng: random.Random) -> Stated:
    value = amount(rng)
    return Stated(str(value), value)


def _many(
    make: Callable[[random.Random], str], low: int = 2, high: int = 4
) -> Callable[[random.Random], Stated]:
    def draw(rng: random.Random) -> Stated:
        texts: list[str] = []
        count = rng.randint(low, high)
        while len(texts) < count:
            one = make(rng)
            if one not in texts:
                texts.append(one)
        return Stated(and_joined(rng, texts), texts)

    return draw


def _numbers(rng: random.Random) -> Stated:
    values = [rng.randint(0, rng.choice((9, 99, 999))) for _ in range(rng.randint(2, 5))]
    return Stated(and_joined(rng, [str(value) for value in values]), values)


def _flag(yes: tuple[str, ...], no: tuple[str, ...]) -> Callable[[random.Random], Stated]:
    def draw(rng: random.Random) -> Stated:
        value = rng.random() < 0.5
        return Stated(rng.choice(yes if value else no), value)

    return draw


def _email(rng: random.Random) -> str:
    host = rng.choice(("example.com", "example.org", "mail.com", f"{invented(rng).lower()}.com"))
    first = name(rng).lower()
    parts = (first, f"{first}.{surname(rng).lower()}", f"{first}{rng.randint(1, 99)}")
    return f"{rng.choice(parts)}@{host}"


def _phone(rng: random.Random) -> str:
    return rng.choice(("555-{}", "+1 555 {}", "0{}", "+49 {}")).format(rng.randint(1000, 9999999))


def _company(rng: random.Random) -> str:
    return rng.choice(_TEMPLATES["companies"]) if rng.random() < 0.4 else invented(rng)


def _title(rng: random.Random) -> str:
    words = rng.sample(_TEMPLATES["title words"], 2)
    shapes = ("The {0}", "The {0} of {1}", "{0} and {1}", "The {0} {1}", f"{invented(rng)}", "{1}")
    return rng.choice(shapes).format(*words)


def _event(rng: random.Random) -> str:
    event = rng.choice(_TEMPLATES["events"])
    return event if rng.random() < 0.85 else f"{invented(rng)} {event.rsplit(maxsplit=1)[-1]}"


def _enum(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


LEVELS = ("low", "medium", "high")
SIZES = ("small", "medium", "large")

SLOTS: dict[str, Slot] = {
    "who": Slot(("name", "name", "name", "full_name", "person"), TEXT, _plain(full_name)),
    "age": Slot(("age", "age", "age", "age_years"), WHOLE, _whole(1, 99)),
    "city": Slot(("city", "city", "location", "place", "town"), TEXT, _plain(city)),
    "country": Slot(("country", "country", "nation"), TEXT, _plain(country)),
    "job": Slot(("job", "occupation", "profession", "job_title"), TEXT, _one("jobs")),
    "student": Slot(
        ("is_student", "student"), FLAG, _flag(("a student",), ("not a student", "no student"))
    ),
    "married": Slot(
        ("married", "is_married"), FLAG, _flag(("married",), ("not married", "single"))
    ),
    "email": Slot(("email", "email", "email_address"), TEXT, _plain(_email)),
    "phone": Slot(("phone", "phone", "phone_number"), TEXT, _plain(_phone)),
    "company": Slot(("company", "employer", "organization"), TEXT, _plain(_company)),
    "people": Slot(
        ("participants", "participants", "attendees", "people", "names", "guests"),
        TEXTS,
        _many(full_name, 1),
    ),
    "event": Slot(("name", "name", "event", "title", "event_name"), TEXT, _plain(_event)),
    "day": Slot(("date", "date", "day", "due_date", "when"), TEXT, _plain(day)),
    "time": Slot(("time", "time", "start_time", "hour"), TEXT, _plain(clock)),
    "people_count": Slot(("population", "inhabitants"), WHOLE, _whole(100, 9_999_999)),
    "count": Slot(("quantity", "count", "amount", "number"), WHOLE, _whole(2, 60, 12)),
    "guests": Slot(("guests", "people", "passengers", "number_of_people"), WHOLE, _whole(2, 9, 9)),
    "item": Slot(("item", "product", "item_name", "name"), TEXT, _one("items")),
    "product": Slot(("product", "item", "name", "title"), TEXT, _one("products")),
    "price": Slot(("price", "price", "cost", "total"), NUMBER, _price),
    "stock": Slot(
        ("in_stock", "available", "is_available"),
        FLAG,
        _flag(("in stock", "available"), ("sold out", "out of stock", "not available")),
    ),
    "colour": Slot(("color", "colour"), TEXT, _one("colours")),
    "size": Slot(("size",), _enum(*SIZES), _plain(lambda rng: rng.choice(SIZES))),
    "number": Slot(("order_id", "order_number", "id"), WHOLE, _whole(1, 99_999)),
    "things": Slot(
        ("items", "items", "products", "shopping_list", "things", "ingredients"),
        TEXTS,
        _many(lambda rng: rng.choice(_TEMPLATES["foods"]), 2, 5),
    ),
    "origin": Slot(("origin", "from", "departure", "from_city"), TEXT, _plain(city)),
    "destination": Slot(("destination", "to", "arrival", "to_city"), TEXT, _plain(city)),
    "condition": Slot(("condition", "conditions", "weather"), TEXT, _one("conditions")),
    "degrees": Slot(("temperature", "temperature", "degrees", "temp"), WHOLE, _whole(-9, 38)),
    "title": Slot(("title", "title", "name", "book"), TEXT, _plain(_title)),
    "year": Slot(("year", "year", "published", "release_year"), WHOLE, _whole(1820, 2030)),
    "stars": Slot(("rating", "stars", "score"), WHOLE, _whole(1, 5, 5)),
    "numbers": Slot(("numbers", "values", "scores", "list"), WHOLES, _numbers),
    "colours": Slot(
        ("colors", "colours"), TEXTS, _many(lambda rng: rng.choice(_TEMPLATES["colours"]))
    ),
    "cities": Slot(("cities", "places", "cities_visited"), TEXTS, _many(city)),
    "priority": Slot(("priority",), _enum(*LEVELS), _plain(lambda rng: rng.choice(LEVELS))),
    "done": Slot(
        ("done", "completed", "is_done"), FLAG, _flag(("done", "finished"), ("not done", "open"))
    ),
    "passed": Slot(("passed",), FLAG, _flag(("passed",), ("failed", "did not pass"))),
    "points": Slot(("points", "score"), WHOLE, _whole(0, 100)),
}
