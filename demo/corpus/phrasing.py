"""Ways to say the same thing: a small choice grammar, and the noise of real typing."""

from __future__ import annotations

import random
import re
from functools import cache

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_WORD = re.compile(r"[a-zA-Z]{4,}")

_OPENERS = (
    "Hey, ", "Hi, ", "Hello, ", "Hi! ", "Hello! ", "Hey! ", "Okay, ", "So, ", "Please ",
    "Well, ", "Ok, ", "OK ", "Hmm, ", "Now then, ", "I wonder: ", "Let me ask: ", "Please: ",
    "My question: ", "Could you tell me: ", "Question: ", "Dear model, ", "Hi Sluice, ",
    "Tell me: ", "Quick question: ", "One question: ", "I have a question. ",
    "Now ", "Um, ", "Good. ", "Thanks. ", "Just curious, ", "And ",
)  # fmt: skip
_CLOSERS = (
    " please", ", please", " thanks", " Thank you!", " now", " then", " for me", ", my friend",
    ", can you say?", ", dear model", " today", ", I wonder", " here", " again",
)  # fmt: skip


@cache
def _innermost(template: str) -> tuple[str, tuple[str, ...], str] | None:
    match = _CHOICE.search(template)
    if match is None:
        return None
    options = tuple(match.group(1).split("|"))
    return template[: match.start()], options, template[match.end() :]


def phrase(rng: random.Random, template: str, **slots: str) -> str:
    """Choose one alternative of every `[a|b]` (they may nest) and fill the `{slots}`."""
    text = template
    while (parts := _innermost(text)) is not None:
        before, options, after = parts
        text = before + rng.choice(options) + after
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def typo(rng: random.Random, text: str) -> str:
    """One slip of the finger in one longer word: swap, drop or double a letter."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    slip = rng.choice(("swap", "drop", "double"))
    if slip == "swap":
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if slip == "drop":
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def casual(rng: random.Random, text: str, *, safe: bool = False) -> str:
    """The text as people type it. With `safe`, letters and case stay: they carry the meaning."""
    if not safe:
        if rng.random() < 0.14:
            text = _prefixed(rng, text)
        if rng.random() < 0.07:
            text = text.rstrip("?.!") + rng.choice(_CLOSERS) + ("?" if text.endswith("?") else "")
        if rng.random() < 0.07:
            text = typo(rng, text)
    roll = rng.random()
    if roll < 0.30:
        text = text.rstrip("?.!")
    elif roll < 0.34:
        text = text.rstrip("?.!") + rng.choice(("??", "!", "...", " ?", "."))
    roll = rng.random()
    if not safe and roll < 0.25:
        text = text.lower()
    elif not safe and roll < 0.28:
        text = text.upper()
    return text.strip()


def _prefixed(rng: random.Random, text: str) -> str:
    opener = rng.choice(_OPENERS)
    keep = opener.endswith(("! ", ". ")) or text.startswith(("I ", "I'", "Sluice"))
    return opener + (text if keep else text[:1].lower() + text[1:])
