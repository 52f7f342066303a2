"""The texts that the project wrote, read from the files in `phrases/`.

Three kinds of file:
* `*.intents.txt`: blocks of questions that mean the same, then the answer on lines with `> `;
  a first line `weight 2` makes a block twice as frequent;
* `*.pairs.txt`: lines of `key: value`;
* `*.txt`: templates, a line each, in sections that start with `@ name`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.corpus.phrasing import casual, phrase

_FOLDER = Path(__file__).with_name("phrases")
_ANSWER = "> "
_WEIGHT = "weight "
_SECTION = "@ "


@dataclass(frozen=True)
class Intent:
    """Questions that mean the same, and the one answer to them."""

    questions: tuple[str, ...]
    answer: str
    weight: float = 1.0

    def sample(self, rng: random.Random, **slots: str) -> tuple[str, str]:
        """One question as people type it, and the answer in good English."""
        return casual(rng, phrase(rng, rng.choice(self.questions), **slots)), self.answer


def pick(rng: random.Random, intents: Sequence[Intent]) -> Intent:
    """An intent, drawn by weight."""
    return rng.choices(intents, [intent.weight for intent in intents])[0]


def intents(name: str) -> tuple[Intent, ...]:
    """The blocks of `<name>.intents.txt`."""
    return tuple(_intent(block.splitlines()) for block in _read(f"{name}.intents").split("\n\n"))


def pairs(name: str) -> dict[str, str]:
    """The lines of `<name>.pairs.txt`."""
    lines = _read(f"{name}.pairs").splitlines()
    return {key: value for key, _, value in (line.partition(": ") for line in lines)}


def templates(name: str) -> dict[str, tuple[str, ...]]:
    """The sections of `<name>.txt`."""
    sections: dict[str, list[str]] = {}
    for line in _read(name).splitlines():
        if line.startswith(_SECTION):
            lines = sections.setdefault(line.removeprefix(_SECTION), [])
        elif line:
            lines.append(line)
    return {section: tuple(found) for section, found in sections.items()}


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip("\n")


def _intent(lines: list[str]) -> Intent:
    weight = 1.0
    if lines[0].startswith(_WEIGHT):
        weight = float(lines.pop(0).removeprefix(_WEIGHT))
    questions = tuple(line for line in lines if not line.startswith(_ANSWER))
    answer = "\n".join(line.removeprefix(_ANSWER) for line in lines if line.startswith(_ANSWER))
    return Intent(questions, answer, weight)
