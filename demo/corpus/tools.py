"""Tools on offer: when to call them, how, and what to make of their answers."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from demo.conversation import Conversation, Exchange, Json, Message, ToolCall
from demo.corpus import greetings, identity, sluice, smalltalk
from demo.corpus.facts import CAPITALS
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.words import invented

_TEMPLATES = templates("tools")
_CONDITIONS = _TEMPLATES["conditions"]
_WEATHER_KEYS = (
    ("temperature", "condition"),
    ("temperature", "conditions"),
    ("temp_c", "sky"),
    ("temperature_c", "description"),
)


@dataclass(frozen=True)
class _Kind:
    """A kind of tool: names it goes by, names of its argument, and sections that describe both."""

    labels: tuple[str, ...]
    arguments: tuple[str, ...]
    about: str
    about_argument: str

    def make(self, rng: random.Random) -> Json:
        """Describe the tool as the OpenAI API does."""
        argument = rng.choice(self.arguments)
        schema = {"type": "string"}
        if rng.random() < 0.5:
            schema["description"] = rng.choice(_TEMPLATES[self.about_argument])
        function = {
            "name": rng.choice(self.labels),
            "description": rng.choice(_TEMPLATES[self.about]),
            "parameters": {
                "type": "object",
                "properties": {argument: schema},
                "required": [argument],
            },
        }
        return {"type": "function", "function": function}


_KINDS = {
    "weather": _Kind(
        ("get_weather", "get_weather", "get_weather", "get_current_weather", "weather"),
        ("city", "city", "location"),
        "about weather",
        "about city",
    ),
    "calculator": _Kind(
        ("calculator", "calculator", "calculator", "calculate", "eval_expression"),
        ("expression",),
        "about calculator",
        "about expression",
    ),
    "time": _Kind(
        ("get_time", "get_current_time"), ("city", "location"), "about time", "about city"
    ),
    "search": _Kind(
        ("search", "search_web", "web_search"), ("query",), "about search", "about query"
    ),
}


def _city(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return rng.choice(_TEMPLATES["more cities"])
    return rng.choice(list(CAPITALS.values())) if roll < 0.8 else invented(rng)


def _expression(rng: random.Random) -> tuple[str, int]:
    op = rng.choice("+-*")
    top = rng.choice((20, 99, 999, 9999))
    a, b = rng.randint(0, top), rng.randint(0, min(top, 999))
    results = {"+": a + b, "-": a - b, "*": a * b}
    shape = "{} {} {}" if rng.random() < 0.75 else "{}{}{}"
    return shape.format(a, op, b), results[op]


def _call(tool: Json, value: str) -> ToolCall:
    function = tool["function"]
    return ToolCall(function["name"], {next(iter(function["parameters"]["properties"])): value})


def _weather_reply(rng: random.Random, city: str) -> tuple[str, str]:
    condition, degrees = rng.choice(_CONDITIONS), rng.randint(-9, 38)
    word = "degree" if degrees == 1 else "degrees"
    said = f"It is {condition} in {city}, with {degrees} {word}."
    keys = rng.choice(_WEATHER_KEYS)
    record: Json = {keys[0]: degrees, keys[1]: condition}
    if rng.random() < 0.5:
        record = {"city": city, **record}
    shapes = (
        json.dumps(record),
        json.dumps(record),
        f"{degrees}°C, {condition}",
        f"{condition}, {degrees} degrees",
        f"{condition.capitalize()}, {degrees} C",
    )
    if rng.random() < 0.12:
        return json.dumps({"temperature": degrees}), f"It is {degrees} {word} in {city}."
    return rng.choice(shapes), said


def _answered(question: str, call: ToolCall, reply: str, said: str) -> Exchange:
    return (
        Message("user", question),
        Message("assistant", "", (call,)),
        Message("tool", reply),
        Message("assistant", said),
    )


def _ask_weather(rng: random.Random, tool: Json) -> Exchange:
    if rng.random() < 0.12:
        return _ask_two(rng, tool)
    city = _city(rng)
    question = casual(
        rng, phrase(rng, rng.choice(_TEMPLATES["weather ask"]), c=city), safe=rng.random() < 0.8
    )
    reply, said = _weather_reply(rng, city)
    return _answered(question, _call(tool, city), reply, said)


def _ask_two(rng: random.Random, tool: Json) -> Exchange:
    cities = (_city(rng), _city(rng))
    question = phrase(rng, rng.choice(_TEMPLATES["weather ask"][:5]), c=" and ".join(cities))
    replies = [_weather_reply(rng, city) for city in cities]
    return (
        Message("user", question),
        Message("assistant", "", tuple(_call(tool, city) for city in cities)),
        *(Message("tool", reply) for reply, _ in replies),
        Message("assistant", " ".join(said for _, said in replies)),
    )


def _ask_calculator(rng: random.Random, tool: Json) -> Exchange:
    expression, result = _expression(rng)
    question = casual(rng, phrase(rng, rng.choice(_TEMPLATES["calc ask"]), e=expression), safe=True)
    reply = rng.choice((str(result), str(result), json.dumps({"result": result})))
    return _answered(question, _call(tool, expression), reply, f"{expression} is {result}.")


def _ask_time(rng: random.Random, tool: Json) -> Exchange:
    city, time = _city(rng), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    question = casual(rng, phrase(rng, rng.choice(_TEMPLATES["time ask"]), c=city), safe=True)
    reply = rng.choice((time, json.dumps({"time": time})))
    return _answered(question, _call(tool, city), reply, f"It is {time} in {city}.")


def _ask_search(rng: random.Random, tool: Json) -> Exchange:
    query = rng.choice(_TEMPLATES["subjects"]) if rng.random() < 0.6 else invented(rng).lower()
    question = casual(rng, phrase(rng, rng.choice(_TEMPLATES["search ask"]), q=query), safe=True)
    reply = f"Found {rng.randint(2, 99)} pages about {query}."
    return _answered(question, _call(tool, query), reply, f"I found some pages about {query}.")


_ASKERS = {
    "weather": _ask_weather,
    "calculator": _ask_calculator,
    "time": _ask_time,
    "search": _ask_search,
}
_PLAIN = (greetings.sample, identity.sample, sluice.sample, smalltalk.sample)


def _offered(rng: random.Random) -> dict[str, Json]:
    roll = rng.random()
    if roll < 0.45:
        kinds = ["weather", "calculator"]
    elif roll < 0.75:
        kinds = [rng.choice(("weather", "weather", "calculator"))]
    else:
        kinds = rng.sample(list(_KINDS), rng.randint(1, 3))
    rng.shuffle(kinds)
    return {kind: _KINDS[kind].make(rng) for kind in kinds}


def sample(rng: random.Random, system: Message | None) -> Conversation:
    """A conversation with tools; the turns that need none are answered in plain words."""
    tools = _offered(rng)
    messages: list[Message] = [system] if system else []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.28:
            messages.extend(rng.choice(_PLAIN)(rng))
        else:
            kind = rng.choice(list(tools))
            messages.extend(_ASKERS[kind](rng, tools[kind]))
    return Conversation(tuple(messages), tuple(tools.values()))
