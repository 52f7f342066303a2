"""Measure the demo model: `python -m demo.evaluate [--directory D] [--answers]`.

All at temperature 0:
* held-out prompts, written by hand in words that the corpus does not make;
* requests with tools, and texts to be put into objects, by hand too (`evaluate_tools.py`);
* sums, split into pairs that training never saw and pairs that it may have seen;
* fresh conversations of every topic, from a seed of their own: the last answer must be exact.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from demo.chat import DemoChat, Reply
from demo.conversation import Conversation, Message
from demo.corpus import arithmetic, memory, mixture, structured, systems, tools
from demo.corpus.arithmetic import ADD, MUL, SUB, Sum
from demo.evaluate_tools import ask_answers, ask_calls, ask_records
from demo.heldout import HELD_OUT
from demo.train import OUTPUT

_SEED = 987_654
_SUMS = 300
_FRESH = 60


def ask_held_out(chat: DemoChat, show: bool) -> str:
    """Answer the hand-written prompts."""
    prompts = [Conversation((Message("user", prompt),)) for prompt, _ in HELD_OUT]
    replies = chat.replies(prompts)
    good = 0
    for (prompt, pattern), reply in zip(HELD_OUT, replies, strict=True):
        matched = re.search(pattern, reply.text, re.IGNORECASE | re.DOTALL) is not None
        good += matched and reply.ended
        if show or not matched:
            print(f"{'    ' if matched else 'MISS'}  {prompt}\n      > {reply.text}")
    return f"held-out prompts: {_share(good, len(HELD_OUT))}, {_ended(replies)}"


def ask_sums(chat: DemoChat) -> list[str]:
    """Ask for sums, in one plain wording."""
    numbers = range(100)
    words = {ADD: "plus", SUB: "minus", MUL: "times"}
    pairs = [Sum(a, b, op) for op in (ADD, SUB) for a in numbers for b in numbers]
    pairs = [total for total in pairs if total.op == ADD or total.a >= total.b]
    groups = {
        "additions never seen": [t for t in pairs if t.op == ADD and arithmetic.is_held_out(t)],
        "additions": [t for t in pairs if t.op == ADD and not arithmetic.is_held_out(t)],
        "subtractions never seen": [t for t in pairs if t.op == SUB and arithmetic.is_held_out(t)],
        "subtractions": [t for t in pairs if t.op == SUB and not arithmetic.is_held_out(t)],
        "times table": [Sum(a, b, MUL) for a in range(13) for b in range(13)],
    }
    lines = []
    for name, sums in groups.items():
        chosen = random.Random(_SEED).sample(sums, min(_SUMS, len(sums)))
        asked = [f"What is {total.a} {words[total.op]} {total.b}?" for total in chosen]
        replies = chat.replies([Conversation((Message("user", text),)) for text in asked])
        good = sum(r.text == t.sentence for r, t in zip(replies, chosen, strict=True))
        lines.append(f"{name}: {_share(good, len(chosen))}")
    return lines


def ask_fresh(chat: DemoChat, show: bool) -> list[str]:
    """Continue fresh conversations of every topic."""
    lines = []
    for name, make in _makers().items():
        rng = random.Random(_SEED)
        wanted = [_cut(make(rng), rng) for _ in range(_FRESH)]
        replies = chat.replies([prompt for prompt, _ in wanted])
        good = 0
        for (prompt, answer), reply in zip(wanted, replies, strict=True):
            good += reply.text == answer and reply.ended
            if show and reply.text != answer:
                print(f"{name}: {prompt.messages[-1].content}\n  > {reply.text}\n  = {answer}")
        lines.append(f"{name}: {_share(good, len(wanted))}, {_ended(replies)}")
    return lines


def _makers() -> dict[str, Callable[[random.Random], Conversation]]:
    made: dict[str, Callable[[random.Random], Conversation]] = {
        topic.__module__.rsplit(".", 1)[1]: partial(_of_topic, topic) for topic in mixture.TOPICS
    }
    made["systems"] = systems.sample
    made["memory"] = lambda rng: Conversation(sum(memory.recollection(rng), ()))
    made["tools"] = lambda rng: tools.sample(rng, None)
    made["structured"] = _structured
    made["long chats"] = lambda rng: Conversation(
        tuple(m for topic in rng.choices(list(mixture.TOPICS), k=8) for m in topic(rng))
    )
    return made


def _of_topic(topic: mixture.Topic, rng: random.Random) -> Conversation:
    return Conversation(topic(rng))


def _structured(rng: random.Random) -> Conversation:
    system, messages = structured.sample(rng)
    return Conversation(((system,) if system else ()) + messages)


def _cut(whole: Conversation, rng: random.Random) -> tuple[Conversation, str]:
    """The conversation up to one of its answers, and that answer as the model writes it."""
    spots = [i for i, message in enumerate(whole.messages) if message.role == "assistant"]
    at = rng.choice(spots)
    answer = whole.messages[at]
    calls = [f"<tool_call>\n{call.to_json()}\n</tool_call>" for call in answer.tool_calls]
    return Conversation(whole.messages[:at], whole.tools), "\n".join(calls) or answer.content


def _share(good: int, total: int) -> str:
    return f"{good}/{total} ({good / total:.0%})"


def _ended(replies: Sequence[Reply]) -> str:
    return f"{sum(reply.ended for reply in replies)} turns ended"


def main() -> None:
    """Read the command line and print the measures."""
    parser = argparse.ArgumentParser(description="Measure the Sluice demo model.")
    parser.add_argument("--directory", type=Path, default=OUTPUT)
    parser.add_argument("--answers", action="store_true", help="print every answer and miss")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chat = DemoChat(arguments.directory)
    show = arguments.answers
    lines = [ask_held_out(chat, show), ask_calls(chat, show), ask_answers(chat, show)]
    lines += [*ask_records(chat, show), *ask_sums(chat)]
    for line in [*lines, *ask_fresh(chat, show)]:
        print(line)


if __name__ == "__main__":
    main()
