"""Requests with tools as clients write them, by hand, and the calls or the answer they should get.

The questions are not made by the corpus, and neither are most of the cities and names in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from demo.conversation import Conversation, Json, Message, ToolCall


@dataclass(frozen=True)
class CallCase:
    """A request, and the calls that it should lead to. No calls: it is answered in words."""

    conversation: Conversation
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class AnswerCase:
    """A conversation that ends with what a tool said, and what the answer must contain."""

    conversation: Conversation
    contains: tuple[str, ...]


@dataclass(frozen=True)
class Plain:
    """Tools of one request and the questions that are asked with them."""

    tools: tuple[Json, ...]
    asked: dict[str, tuple[ToolCall, ...]] = field(default_factory=dict)


def tool(
    name: str, about: str, properties: Json, required: Sequence[str] = (), **more: object
) -> Json:
    """A tool as the OpenAI API has it. ``required``: without it, all are."""
    parameters: Json = {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
    }
    if more.get("strict"):
        parameters["additionalProperties"] = False
    function = {"name": name, "description": about, "parameters": parameters, **more}
    return {"type": "function", "function": function}


_TEXT: Json = {"type": "string"}
WEATHER = tool("get_weather", "Get the weather for a city", {"city": _TEXT})
CALCULATOR = tool("calculator", "Evaluate an arithmetic expression", {"expression": _TEXT})
_WITH_UNIT = tool(
    "get_current_weather",
    "Get the current weather in a given location",
    {
        "location": {
            "type": "string",
            "description": "The city and state, e.g. San Francisco, CA",
        },
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    ("location",),
)
_STRICT = tool(
    "get_weather",
    "Get current temperature for a given location.",
    {"location": {"type": "string", "description": "City and country e.g. Bogotá, Colombia"}},
    strict=True,
)
_ADD = tool("add", "Add two integers.", {"a": {"type": "integer"}, "b": {"type": "integer"}})
_MULTIPLY = tool(
    "multiply", "Multiply a and b.", {"a": {"type": "integer"}, "b": {"type": "integer"}}
)
_PERSON = tool("Person", "Information about a person.", {"name": _TEXT, "age": {"type": "integer"}})
_ORDER = tool("get_order_status", "Get the status of an order", {"order_id": {"type": "integer"}})


def _weather(city: str) -> ToolCall:
    return ToolCall("get_weather", {"city": city})


def _located(place: str, **unit: str) -> ToolCall:
    return ToolCall("get_current_weather", {"location": place, **unit})


def _sum(expression: str) -> ToolCall:
    return ToolCall("calculator", {"expression": expression})


_ASKED = (
    Plain(
        (WEATHER,),
        {
            "What is the weather in Paris?": (_weather("Paris"),),
            "What's the weather like in Tokyo right now?": (_weather("Tokyo"),),
            "I'd like to know how the weather is in Oslo.": (_weather("Oslo"),),
            "How's the weather in Kyoto?": (_weather("Kyoto"),),
            "Is it going to rain in Marrakesh?": (_weather("Marrakesh"),),
            "Tell me what the weather is like in Antwerp please": (_weather("Antwerp"),),
            "weather for Bratislava": (_weather("Bratislava"),),
            "Could you look up the weather for Timbuktu?": (_weather("Timbuktu"),),
            "What is the weather like in São Paulo?": (_weather("São Paulo"),),
            "What is the weather in Düsseldorf?": (_weather("Düsseldorf"),),
            "What's the weather in Paris and in London?": (_weather("Paris"), _weather("London")),
            "How is the weather in Kyoto and Dakar?": (_weather("Kyoto"), _weather("Dakar")),
            "Hello there!": (),
            "What is Sluice?": (),
            "Thanks a lot!": (),
            "Who are you?": (),
            "Tell me a joke": (),
        },
    ),
    Plain(
        (WEATHER, CALCULATOR),
        {
            "What's 12 times 7?": (_sum("12 * 7"),),
            "What is 23 * 19?": (_sum("23 * 19"),),
            "What is 1234 plus 4321?": (_sum("1234 + 4321"),),
            "Please work out 15 + 27": (_sum("15 + 27"),),
            "How much is 144 divided by 12?": (_sum("144 / 12"),),
            "Calculate (3 + 4) * 5": (_sum("(3 + 4) * 5"),),
            "What's the weather in Nairobi today?": (_weather("Nairobi"),),
            "Is it sunny in Gdansk?": (_weather("Gdansk"),),
            "What is the weather in Rome, and what is 6 * 7?": (_weather("Rome"), _sum("6 * 7")),
            "Hi, how are you?": (),
            "What can you do?": (),
        },
    ),
    Plain(
        (_WITH_UNIT,),
        {
            "What is the weather in Boston in fahrenheit?": (
                _located("Boston", unit="fahrenheit"),
            ),
            "What's the weather like in Seville?": (_located("Seville"),),
            "How hot is it in Perth in celsius?": (_located("Perth", unit="celsius"),),
            "What is the temperature in Lagos?": (_located("Lagos"),),
        },
    ),
    Plain(
        (_STRICT, _ADD, _MULTIPLY),
        {
            "What is the weather like in Vilnius today?": (
                ToolCall("get_weather", {"location": "Vilnius"}),
            ),
            "What is 3 * 12?": (ToolCall("multiply", {"a": 3, "b": 12}),),
            "What is 11 + 49?": (ToolCall("add", {"a": 11, "b": 49}),),
            "Multiply 17 by 23": (ToolCall("multiply", {"a": 17, "b": 23}),),
            "What's 3 * 12? Also, what is 11 + 49?": (
                ToolCall("multiply", {"a": 3, "b": 12}),
                ToolCall("add", {"a": 11, "b": 49}),
            ),
        },
    ),
    Plain(
        (_PERSON,),
        {
            "Jane is 30 years old.": (ToolCall("Person", {"name": "Jane", "age": 30}),),
            "My name is Ismail and I am 41 years old": (
                ToolCall("Person", {"name": "Ismail", "age": 41}),
            ),
        },
    ),
    Plain(
        (_ORDER,),
        {
            "What is the status of order 1234?": (
                ToolCall("get_order_status", {"order_id": 1234}),
            ),
            "Where is my order 98765?": (ToolCall("get_order_status", {"order_id": 98765}),),
        },
    ),
)

CALLS = tuple(
    CallCase(Conversation((Message("user", question),), plain.tools), calls)
    for plain in _ASKED
    for question, calls in plain.asked.items()
)


def _answered(question: str, calls: Sequence[ToolCall], *replies: str) -> Conversation:
    return Conversation(
        (
            Message("user", question),
            Message("assistant", "", tuple(calls)),
            *(Message("tool", reply) for reply in replies),
        ),
        (WEATHER, CALCULATOR),
    )


ANSWERS = tuple(
    AnswerCase(_answered(question, calls, *replies), contains)
    for question, calls, replies, contains in (
        (
            "What is the weather in Paris?",
            [_weather("Paris")],
            ['{"temperature": 18, "condition": "sunny"}'],
            ("18", "sunny", "Paris"),
        ),
        (
            "What's the weather in Kyoto?",
            [_weather("Kyoto")],
            ['{"city": "Kyoto", "temperature": 24, "condition": "drizzle"}'],
            ("24", "drizzle", "Kyoto"),
        ),
        (
            "How's the weather in Oslo?",
            [_weather("Oslo")],
            ["It is cloudy and 7 degrees."],
            ("7", "cloudy", "Oslo"),
        ),
        (
            "What is the weather in Rome?",
            [_weather("Rome")],
            ['{"temperature": 21}'],
            ("21", "Rome"),
        ),
        (
            "Weather in Marrakesh",
            [_weather("Marrakesh")],
            ['{"temperature": "31", "unit": "celsius"}'],
            ("31", "Marrakesh"),
        ),
        ("What's the weather in Paris?", [_weather("Paris")], ["22°C and sunny"], ("22", "sunny")),
        ("How warm is it in Dakar?", [_weather("Dakar")], ["33"], ("33", "Dakar")),
        (
            "What is the weather in London?",
            [_weather("London")],
            ['{"location":"London","temp":12,"conditions":"light rain","humidity":87}'],
            ("12", "light rain", "London"),
        ),
        ("What's 12 times 7?", [_sum("12 * 7")], ["84"], ("84",)),
        ("What is 23 * 19?", [_sum("23 * 19")], ['{"result": 437}'], ("437",)),
        ("What is 1234 plus 4321?", [_sum("1234 + 4321")], ["5555"], ("5555",)),
        ("How much is 7 divided by 2?", [_sum("7 / 2")], ["3.5"], ("3.5",)),
        (
            "How is the weather in Kyoto and Dakar?",
            [_weather("Kyoto"), _weather("Dakar")],
            [
                '{"temperature": 15, "condition": "rainy"}',
                '{"temperature": 34, "condition": "clear"}',
            ],
            ("15", "34", "Kyoto", "Dakar"),
        ),
        (
            "What is the weather in Rome, and what is 6 * 7?",
            [_weather("Rome"), _sum("6 * 7")],
            ['{"temperature": 27, "condition": "sunny"}', "42"],
            ("27", "42"),
        ),
    )
)
