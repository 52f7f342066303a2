"""Tools that calculate: one that takes an expression, and such as take two numbers."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from demo.conversation import Json
from demo.corpus.arithmetic import ADD, DIV, MUL, SUB
from demo.corpus.errands import Errand, Offer, describe, spelled, text_schema
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase

_TEMPLATES = templates("tools")
_NAMES = (
    *("calculator",) * 5, "calculate", "calculate", "eval_expression", "evaluate", "calc", "math",
    "evaluate_expression",
)  # fmt: skip
_ARGUMENTS = ("expression", "expression", "expression", "expression", "query", "input", "expr")
_WORDS = {ADD: ("plus",), SUB: ("minus",), MUL: ("times", "multiplied by"), DIV: ("divided by",)}
_OPERATIONS = {ADD: "add", SUB: "subtract", MUL: "multiply", DIV: "divide"}
_PAIRS = (("a", "b"), ("a", "b"), ("a", "b"), ("x", "y"), ("first", "second"))

Number = int | float


@dataclass(frozen=True)
class _Task:
    """`a op b`."""

    a: Number
    b: Number
    op: str

    @property
    def result(self) -> Number:
        """The answer, with at most four decimals."""
        results: dict[str, Number] = {ADD: self.a + self.b, SUB: self.a - self.b}
        value = results.get(self.op)
        if value is None:
            value = self.a * self.b if self.op == MUL else self.a / self.b
        value = round(value, 4)
        return int(value) if value == int(value) else value

    @property
    def expression(self) -> str:
        """With spaces, as the calls have it."""
        return f"{self.a} {self.op} {self.b}"


def _task(rng: random.Random, ops: str = "++--***/") -> _Task:
    op = rng.choice(ops)
    top = rng.choice((12, 20, 99, 99, 999, 9999))
    a, b = rng.randint(0, top), rng.randint(1, min(top, 999))
    if op == DIV and rng.random() < 0.6:
        a = b * rng.randint(1, 40)
    if rng.random() < 0.1:
        return _Task(round(a + rng.randint(1, 9) / 10, 1), b, op)
    return _Task(a, b, op)


def _reply(rng: random.Random, result: Number, expression: str = "") -> str:
    shapes = [str(result)] * 4
    shapes += [json.dumps({rng.choice(("result", "result", "answer", "value")): result})] * 3
    if expression:
        shapes += [
            f"{expression} = {result}",
            json.dumps({"expression": expression, "result": result}),
        ]
    shapes += [
        f"The result is {result}",
        f'{{"result":{result}}}',
        json.dumps({"result": str(result)}),
    ]
    return rng.choice(shapes)


def _in_words(rng: random.Random, task: _Task, section: str = "sum words") -> str:
    slots = {"a": str(task.a), "b": str(task.b), "w": rng.choice(_WORDS[task.op])}
    return phrase(rng, rng.choice(_TEMPLATES[section]), **slots)


def _symbols(rng: random.Random, expression: str) -> str:
    """The expression as people type it."""
    roll = rng.random()
    if roll < 0.25:
        expression = expression.replace(" ", "")
    if roll < 0.08 or roll > 0.92:
        expression = expression.replace("*", "x")
    return phrase(rng, rng.choice(_TEMPLATES["calc ask"]), e=expression)


def _long(rng: random.Random) -> tuple[str, Number]:
    """An expression of three numbers, and its value."""
    a, b, c = (rng.randint(1, rng.choice((20, 99, 500))) for _ in range(3))
    op, other = rng.choice((ADD, SUB, MUL)), rng.choice((ADD, SUB, MUL))
    first, last = _Task(a, b, op), _Task(b, c, other)
    from_left, from_right = _Task(first.result, c, other).result, _Task(a, last.result, op).result
    roll = rng.random()
    if roll < 0.25:
        return f"({first.expression}) {other} {c}", from_left
    if roll < 0.5:
        return f"{a} {op} ({last.expression})", from_right
    binds_last = other == MUL and op != MUL
    return f"{first.expression} {other} {c}", from_right if binds_last else from_left


def _expression_errand(rng: random.Random, argument: str) -> Errand:
    roll = rng.random()
    if roll < 0.15:
        expression, result = _long(rng)
        question = phrase(rng, rng.choice(_TEMPLATES["calc ask"]), e=expression)
    else:
        task = _task(rng)
        expression, result = task.expression, task.result
        question = _in_words(rng, task) if roll < 0.55 else _symbols(rng, expression)
    question = casual(rng, question, safe=True)
    said = f"{expression} is {result}."
    return Errand(question, {argument: expression}, _reply(rng, result, expression), said)


def calculator_offer(rng: random.Random) -> Offer:
    """A tool that evaluates an expression, now and then one that takes numbers."""
    if rng.random() < 0.22:
        return rng.choice((_one_operation, _any_operation))(rng)
    argument = rng.choice(_ARGUMENTS)
    properties = {argument: text_schema(rng, _TEMPLATES["about expression"])}
    about = rng.choice(_TEMPLATES["about calculator"])
    tool = describe(rng, spelled(rng, rng.choice(_NAMES)), about, properties, [argument])
    return Offer(tool, "calculator", lambda asked: _expression_errand(asked, argument))


def _one_operation(rng: random.Random) -> Offer:
    op = rng.choice((ADD, ADD, MUL, MUL, SUB, DIV))
    first, second = rng.choice(_PAIRS)
    kind = rng.choice(("integer", "integer", "number"))

    def ask(asked: random.Random) -> Errand:
        task = _task(asked, op)
        if kind == "integer":
            task = _Task(int(task.a), int(task.b), op)
        named = {ADD: "add words", MUL: "multiply words"}
        section = named[op] if op in named and asked.random() < 0.35 else "sum words"
        question = _in_words(asked, task, section)
        if asked.random() < 0.3:
            question = _symbols(asked, task.expression)
        said = f"{task.expression} is {task.result}."
        return Errand(question, {first: task.a, second: task.b}, _reply(asked, task.result), said)

    name = _OPERATIONS[op]
    abouts = (f"{name.capitalize()} {first} and {second}.", f"{name.capitalize()} two numbers.")
    properties: Json = {first: {"type": kind}, second: {"type": kind}}
    if rng.random() < 0.4:
        for key, which in ((first, "First"), (second, "Second")):
            properties[key]["description"] = f"{which} number"
    names = (name, name, f"{name}_numbers")
    tool = describe(rng, rng.choice(names), rng.choice(abouts), properties, [first, second])
    return Offer(tool, _OPERATIONS[op], ask)


def _any_operation(rng: random.Random) -> Offer:
    first, second = rng.choice(_PAIRS)
    key = rng.choice(("operation", "operation", "operator", "op"))
    signs = rng.random() < 0.25
    options = {op: op if signs else name for op, name in _OPERATIONS.items()}
    operation_first = rng.random() < 0.6

    def ask(asked: random.Random) -> Errand:
        task = _task(asked)
        question = _in_words(asked, task)
        if asked.random() < 0.5:
            question = _symbols(asked, task.expression)
        numbers: Json = {first: task.a, second: task.b}
        chosen = {key: options[task.op]}
        arguments = {**chosen, **numbers} if operation_first else {**numbers, **chosen}
        said = f"{task.expression} is {task.result}."
        return Errand(question, arguments, _reply(asked, task.result), said)

    operation = {key: {"type": "string", "enum": list(options.values())}}
    numbers = {first: {"type": "number"}, second: {"type": "number"}}
    properties = {**operation, **numbers} if operation_first else {**numbers, **operation}
    about = rng.choice(_TEMPLATES["about calculator"])
    tool = describe(rng, rng.choice(_NAMES), about, properties, list(properties))
    return Offer(tool, "calculator", ask)
