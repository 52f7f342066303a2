"""Tools that know the weather, with what people ask them and how they answer."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

from demo.conversation import Json
from demo.corpus.errands import Errand, Offer, describe, spelled, text_schema
from demo.corpus.numbers import in_words
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.places import city, country
from demo.corpus.slots import and_joined

_TEMPLATES = templates("tools")
_NAMES = (
    *("get_weather",) * 6, "get_current_weather", "get_current_weather", "weather",
    "fetch_weather", "weather_lookup", "get_forecast", "current_weather", "get_temperature",
)  # fmt: skip
_PLACES = ("city", "city", "city", "location", "location", "location", "place", "city_name")
_UNITS = (("celsius", "fahrenheit"), ("celsius", "fahrenheit"), ("C", "F"), ("metric", "imperial"))
_STATES = ("CA", "NY", "TX", "MA", "WA", "IL", "UK", "USA")
_UNIT_WORDS = (("Celsius", "celsius", "degrees Celsius"), ("Fahrenheit", "fahrenheit"))
_WHEN = re.compile(r"\[ to[^\]]*\]")
_DAYS = ("today", "tomorrow", "Monday", "Friday", "Saturday", "Sunday")
_RECORD_KEYS = (
    ("temperature", "condition"),
    ("temperature", "condition"),
    ("temperature", "conditions"),
    ("temp_c", "sky"),
    ("temp", "description"),
    ("temperature_c", "description"),
    ("temperature", "weather"),
    ("degrees", "summary"),
)


def _place(rng: random.Random) -> str:
    """A city, now and then with its country or state."""
    place = city(rng)
    roll = rng.random()
    if roll < 0.04:
        return f"{place}, {country(rng)}"
    return f"{place}, {rng.choice(_STATES)}" if roll < 0.06 else place


@dataclass(frozen=True)
class _Unit:
    key: str
    values: tuple[str, str]
    required: bool
    may_be_null: bool = False


@dataclass(frozen=True)
class _Weather:
    """Which arguments this one has."""

    place: str
    unit: _Unit | None
    day: str | None
    days: str | None
    unit_first: bool

    def ask(self, rng: random.Random) -> Errand:
        place = _place(rng)
        if self.unit and rng.random() < 0.5:
            chosen = rng.randrange(2)
            word = rng.choice(_UNIT_WORDS[chosen])
            question = phrase(rng, rng.choice(_TEMPLATES["weather unit"]), c=place, u=word)
            return self._errand(rng, question, place, self.unit.values[chosen])
        if self.day and rng.random() < 0.6:
            day = rng.choice(_DAYS)
            said = day if day[0].islower() else rng.choice(("on {}", "next {}", "{}")).format(day)
            question = phrase(rng, rng.choice(_TEMPLATES["weather day"]), c=place, d=said)
            return self._errand(rng, question, place, day=day)
        if self.days and rng.random() < 0.6:
            days = rng.randint(2, 10)
            word = in_words(days) if rng.random() < 0.3 else str(days)
            question = phrase(rng, rng.choice(_TEMPLATES["weather days"]), c=place, k=word)
            return self._errand(rng, question, place, days=days)
        template = rng.choice(_TEMPLATES["weather ask"])
        if self.day:
            template = _WHEN.sub("", template)  # it would be an argument
        question = phrase(rng, template, c=place)
        return self._errand(rng, casual(rng, question, safe=rng.random() < 0.85), place)

    def many(self, rng: random.Random) -> tuple[str, list[Errand]]:
        """One question about two or three cities."""
        places: list[str] = []
        while len(places) < rng.choice((2, 2, 2, 3)):
            if (place := _place(rng)) not in places:
                places.append(place)
        question = phrase(rng, rng.choice(_TEMPLATES["weather two"]), c=and_joined(rng, places))
        return casual(rng, question, safe=True), [self._errand(rng, "", one) for one in places]

    def follow(self, rng: random.Random) -> Errand:
        place = _place(rng)
        question = phrase(rng, rng.choice(_TEMPLATES["weather follow"]), c=place)
        return self._errand(rng, question, place)

    def _errand(
        self,
        rng: random.Random,
        question: str,
        place: str,
        unit: str | None = None,
        day: str | None = None,
        days: int | None = None,
    ) -> Errand:
        arguments: Json = {self.place: place}
        if self.unit and unit is None and self.unit.required and not self.unit.may_be_null:
            unit = self.unit.values[0]
        if self.unit and (unit is not None or self.unit.may_be_null):
            told = {self.unit.key: unit}
            arguments = {**told, **arguments} if self.unit_first else {**arguments, **told}
        if self.day and day:
            arguments[self.day] = day
        if self.days and days:
            arguments[self.days] = days
        reply, said = weather_reply(rng, place, self.place, unit)
        return Errand(question, arguments, reply, said)


def weather_reply(
    rng: random.Random, place: str, key: str = "city", unit: str | None = None
) -> tuple[str, str]:
    """What such a tool says, and the sentence that passes it on."""
    if rng.random() < 0.04:
        oops = rng.choice(_TEMPLATES["oops"])
        return _error(rng, oops), f"Sorry, the tool says: {oops}."
    condition, degrees = rng.choice(_TEMPLATES["conditions"]), rng.randint(-9, 99)
    word = "degree" if degrees == 1 else "degrees"
    if rng.random() < 0.2:
        return _only_degrees(rng, place, degrees), f"It is {degrees} {word} in {place}."
    if rng.random() < 0.1:
        return _only_condition(rng, place, condition), f"It is {condition} in {place}."
    said = f"It is {condition} in {place}, with {degrees} {word}."
    if rng.random() < 0.55:
        return _record(rng, place, key, condition, degrees, unit), said
    return _sentence(rng, place, condition, degrees), said


def _record(
    rng: random.Random, place: str, key: str, condition: str, degrees: int, unit: str | None
) -> str:
    keys = rng.choice(_RECORD_KEYS)
    items: list[tuple[str, object]] = [
        (keys[0], str(degrees) if rng.random() < 0.1 else degrees),
        (keys[1], condition),
    ]
    if rng.random() < 0.4:
        items.append(("unit", unit or rng.choice(("celsius", "fahrenheit", "C", "F"))))
    if rng.random() < 0.2:
        items.append(rng.choice((("humidity", rng.randint(10, 99)), ("wind", rng.randint(0, 60)))))
    if rng.random() < 0.3:
        rng.shuffle(items)
    if rng.random() < 0.5:
        items.insert(0, (rng.choice((key, "city", "location")), place))
    separators = (",", ":") if rng.random() < 0.3 else (", ", ": ")
    return json.dumps(dict(items), ensure_ascii=False, separators=separators)


def _sentence(rng: random.Random, place: str, condition: str, degrees: int) -> str:
    template = rng.choice(_TEMPLATES["weather text"])
    text = phrase(rng, template, c=place, s=condition, t=str(degrees))
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def _only_degrees(rng: random.Random, place: str, degrees: int) -> str:
    key = rng.choice(("temperature", "temperature", "temp", "degrees"))
    record: Json = {key: degrees}
    if rng.random() < 0.4:
        record["unit"] = rng.choice(("celsius", "fahrenheit"))
    shapes = (
        json.dumps(record),
        json.dumps({"city": place, **record}, ensure_ascii=False),
        str(degrees),
        f"{degrees}°C",
        f"{degrees} degrees",
        f"{degrees} C",
        f"{degrees}°F",
    )
    return rng.choice(shapes)


def _only_condition(rng: random.Random, place: str, condition: str) -> str:
    shapes = (
        json.dumps({rng.choice(("condition", "weather")): condition}),
        condition,
        condition.capitalize(),
        f"It's always {condition} in {place}!",
        f"It is {condition} in {place}.",
        f"The weather in {place} is {condition}.",
    )
    return rng.choice(shapes)


def _error(rng: random.Random, oops: str) -> str:
    shapes = (json.dumps({"error": oops}), f"Error: {oops}", f"error: {oops}")
    return rng.choice(shapes)


def weather_offer(rng: random.Random) -> Offer:
    """A tool for the weather, with one argument or some."""
    place = rng.choice(_PLACES)
    unit = day = days = None
    roll = rng.random()
    if roll < 0.38:
        key = rng.choice(("unit", "unit", "units"))
        required = rng.random() < 0.45
        unit = _Unit(key, rng.choice(_UNITS), required, required and rng.random() < 0.25)
    if 0.33 < roll < 0.45:
        day = rng.choice(("date", "day", "when"))
    elif 0.45 < roll < 0.53:
        days = rng.choice(("days", "num_days"))
    made = _Weather(place, unit, day, days, unit is not None and rng.random() < 0.12)
    properties: Json = {place: text_schema(rng, _TEMPLATES["about city"])}
    needed = [place]
    if unit:
        schema: Json = {"type": "string", "enum": list(unit.values)}
        if unit.may_be_null:
            schema = {"anyOf": [schema, {"type": "null"}]}
        if rng.random() < 0.3:
            schema["description"] = rng.choice(_TEMPLATES["about unit"])
        told = {unit.key: schema}
        properties = {**told, **properties} if made.unit_first else {**properties, **told}
        needed = [*needed, unit.key] if unit.required else needed
    if day:
        properties[day] = text_schema(rng, _TEMPLATES["about day"])
    if days:
        properties[days] = {"type": "integer"}
        if rng.random() < 0.5:
            properties[days]["description"] = rng.choice(_TEMPLATES["about days"])
    about = rng.choice(_TEMPLATES["about weather"])
    tool = describe(rng, spelled(rng, rng.choice(_NAMES)), about, properties, needed)
    return Offer(tool, "weather", made.ask, made.many, made.follow)
