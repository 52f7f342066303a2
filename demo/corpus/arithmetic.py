"""Sums of numbers up to 99, the times tables up to 12, and an honest no to larger ones.

Two numbers of two digits are added or subtracted in two steps that the answer shows: first the
tens, then the ones. A model of this size learns the steps long before it would learn the sums.
One pair in ten never occurs here: `is_held_out` names them, and evaluate.py asks for them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.conversation import Exchange, exchange
from demo.corpus.numbers import in_words
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase

ADD, SUB, MUL, DIV = "+", "-", "*", "/"

_TEMPLATES = templates("arithmetic")
_NAMES = {ADD: "add", SUB: "subtract", MUL: "multiply", DIV: "divide"}
_SAY = {ADD: "plus", SUB: "minus", MUL: "times", DIV: "divided by"}
_THINGS = "[apples|books|coins|cookies|pens|tokens|oranges|stones|eggs|cups|cards|balls|stamps]"
_TOO_LARGE = "That is too large for me: I can only add and subtract numbers up to 99."


@dataclass(frozen=True)
class Sum:
    """Two numbers and what to do with them."""

    a: int
    b: int
    op: str

    @property
    def result(self) -> int:
        """The exact answer."""
        values = {ADD: self.a + self.b, SUB: self.a - self.b, MUL: self.a * self.b}
        return values[self.op] if self.op in values else self.a // self.b

    @property
    def plain(self) -> str:
        """The result without the way to it: `48 plus 55 is 103`."""
        return f"{self.a} {_SAY[self.op]} {self.b} is {self.result}"

    @property
    def sentence(self) -> str:
        """The answer, with its steps: `48 + 50 = 98 and 98 + 5 = 103, so 48 plus 55 is 103`."""
        if not self.is_long:
            return f"{self.plain}."
        first, second = max(self.a, self.b), min(self.a, self.b)
        if self.op == ADD:
            first, second = self.a, self.b
        tens, ones = second - second % 10, second % 10
        sign = 1 if self.op == ADD else -1
        between = first + sign * tens
        last = between + sign * ones
        steps = f"{first} {self.op} {tens} = {between} and {between} {self.op} {ones} = {last}"
        return f"{steps}, so {self.plain}."

    @property
    def is_long(self) -> bool:
        """True where the answer shows its steps."""
        second = self.b if self.op == ADD else min(self.a, self.b)
        return self.op in (ADD, SUB) and min(self.a, self.b) >= 10 and second % 10 > 0


def is_held_out(total: Sum) -> bool:
    """True for one pair of two-digit numbers in ten, by a fixed rule: never trained on."""
    if total.op not in (ADD, SUB) or min(total.a, total.b) < 10:
        return False
    return (total.a * 31 + total.b * 17 + (total.a * total.b) % 7) % 10 == 3


def any_sum(rng: random.Random) -> Sum:
    """A sum from the whole range, held-out ones too."""
    op = rng.choices((ADD, SUB, MUL, DIV), (45, 38, 12, 5))[0]
    if op == MUL:
        return Sum(rng.randint(0, 12), rng.randint(0, 12), op)
    if op == DIV:
        b = rng.randint(1, 12)
        return Sum(b * rng.randint(0, 12), b, op)
    roll = rng.random()
    a = rng.randint(0, 20 if roll < 0.2 else 99)
    b = rng.randint(0, 10 if roll < 0.5 else 99)
    if op == ADD and rng.random() < 0.3:
        a, b = b, a
    if op == SUB and a < b and rng.random() < 0.8:
        a, b = b, a
    return Sum(a, b, op)


def trained_sum(rng: random.Random) -> Sum:
    """A sum that training may show."""
    while is_held_out(total := any_sum(rng)):
        pass
    return total


def short_sum(rng: random.Random) -> Sum:
    """A sum that is answered without steps."""
    while (total := trained_sum(rng)).is_long:
        pass
    return total


def question(rng: random.Random, total: Sum, again: bool = False) -> str:
    """One way to ask for a sum; `again` allows the short forms that follow another sum."""
    name = _NAMES[total.op]
    asks = _TEMPLATES[f"{name} again" if again and rng.random() < 0.7 else name]
    words = max(total.a, total.b) <= 99 and rng.random() < 0.06
    a, b = (in_words(n) if words else str(n) for n in (total.a, total.b))
    text = phrase(rng, rng.choice(asks), a=a, b=b)
    return casual(rng, text.lower() if rng.random() < 0.15 else text, safe=rng.random() < 0.85)


def _sums(rng: random.Random) -> Exchange:
    texts: list[str] = []
    for turn in range(rng.choice((1, 1, 2, 3, 5))):
        total = trained_sum(rng)
        texts += [question(rng, total, again=turn > 0), total.sentence]
    return exchange(*texts)


def _running(rng: random.Random) -> Exchange:
    """A sum that goes on from the last result."""
    total = trained_sum(rng)
    texts = [question(rng, total, again=False), total.sentence]
    for _ in range(rng.randint(1, 2)):
        op = rng.choice((ADD, SUB))
        then = Sum(total.result, rng.randint(1, 20), op)
        if not 0 <= total.result <= 99 or is_held_out(then) or then.result < 0:
            break
        ask = {ADD: "[And |Now |]plus {b}[?|]", SUB: "[And |Now |]minus {b}[?|]"}[op]
        other = {ADD: "[Now |]add {b}[ to that|]", SUB: "[Now |]subtract {b}[ from that|]"}[op]
        texts += [phrase(rng, rng.choice((ask, other)), b=str(then.b)), then.sentence]
        total = then
    return exchange(*texts)


def _word_problem(rng: random.Random) -> Exchange:
    total = trained_sum(rng)
    while total.op not in (ADD, SUB) or total.result < 0 or max(total.a, total.b) > 40:
        total = trained_sum(rng)
    things = phrase(rng, _THINGS)
    more = "[get|buy|find|receive] {b} more" if total.op == ADD else "[give away|lose|eat|sell] {b}"
    text = phrase(
        rng,
        "I have {a} {things}[ and| and then I|. I|. Then I] " + more
        + "[ of them|]. How many [{things} |]do I have[ now|]?",
        a=str(total.a), b=str(total.b), things=things,
    )  # fmt: skip
    return exchange(text, f"{total.sentence} You have {total.result} {things}.")


def _too_large(rng: random.Random) -> Exchange:
    op = rng.choice((ADD, SUB, MUL))
    low = 13 if op == MUL else 100
    a, b = rng.randint(low, rng.choice((200, 999, 9999, 99999))), rng.randint(low, 999)
    text = phrase(rng, rng.choice(_TEMPLATES[_NAMES[op]]), a=str(a), b=str(b))
    answer = _TOO_LARGE
    if op == MUL:
        answer = "That is too large for me: I know the times tables only up to 12 times 12."
    return exchange(casual(rng, text, safe=True), answer)


def _compare(rng: random.Random) -> Exchange:
    a, b = rng.sample(range(100), 2)
    word, answer = rng.choice((("larger", max(a, b)), ("smaller", min(a, b))))
    asked = phrase(rng, {"larger": "[larger|bigger|greater]", "smaller": "smaller"}[word])
    text = "[Which is|Which number is|What is] {w}[,|:] {a} or {b}?"
    asks = phrase(rng, text, w=asked, a=str(a), b=str(b))
    return exchange(casual(rng, asks, safe=True), f"{answer} is {word}.")


def _next_number(rng: random.Random) -> Exchange:
    n = rng.randint(0, 98)
    after = rng.random() < 0.6
    text = "after" if after else "before"
    n = n if after else n + 1
    asks = phrase(rng, f"[What|Which number] comes {text} {n}?")
    found = n + 1 if after else n - 1
    return exchange(casual(rng, asks, safe=True), f"{found} comes {text} {n}.")


def sample(rng: random.Random) -> Exchange:
    """Some arithmetic."""
    kinds = (_sums, _running, _word_problem, _too_large, _compare, _next_number)
    kind = rng.choices(kinds, (76, 8, 6, 4, 3, 3))[0]
    return kind(rng)
