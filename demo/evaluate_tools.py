"""Measures of tools and objects, with requests that were written by hand."""

from __future__ import annotations

import json
import re

from demo.chat import DemoChat
from demo.conversation import Json
from demo.filling import Filler
from demo.heldout_records import RECORDS
from demo.heldout_tools import ANSWERS, CALLS

_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>")


def calls_in(text: str) -> list[Json]:
    """The calls in an answer, each with its name and arguments; {} for one that is no JSON."""
    return [_parsed(found) for found in _CALL.findall(text)]


def ask_calls(chat: DemoChat, show: bool) -> str:
    """Ask with tools: the calls must be right, in their number, names and every argument."""
    replies = chat.replies([case.conversation for case in CALLS])
    good = 0
    for case, reply in zip(CALLS, replies, strict=True):
        wanted = [{"name": call.name, "arguments": call.arguments} for call in case.calls]
        spoken = bool(reply.text) and "<tool_call>" not in reply.text
        matched = reply.ended and calls_in(reply.text) == wanted and (bool(wanted) or spoken)
        good += matched
        _print(matched, show, case.conversation.messages[-1].content, reply.text)
    return f"calls written by hand: {_share(good, len(CALLS))}"


def ask_answers(chat: DemoChat, show: bool) -> str:
    """Go on after a tool's answer: what it said must be in the model's own."""
    replies = chat.replies([case.conversation for case in ANSWERS])
    good = 0
    for case, reply in zip(ANSWERS, replies, strict=True):
        said = all(part in reply.text for part in case.contains)
        matched = reply.ended and said and "<tool_call>" not in reply.text
        good += matched
        _print(matched, show, case.conversation.messages[-1].content, reply.text)
    return f"answers from tools' results: {_share(good, len(ANSWERS))}"


def ask_records(chat: DemoChat, show: bool) -> list[str]:
    """Have objects filled while their schemas are enforced: whole ones and single values."""
    filler = Filler(chat)
    good = right = total = 0
    for case in RECORDS:
        found = filler.fill(case.conversation, case.schema)
        good += found == case.record
        total += len(case.record)
        right += sum((found or {}).get(key) == value for key, value in case.record.items())
        text = case.conversation.messages[-1].content
        _print(found == case.record, show, text, json.dumps(found, ensure_ascii=False))
    return [
        f"objects under a schema: {_share(good, len(RECORDS))}",
        f"values in them: {_share(right, total)}",
    ]


def _parsed(text: str) -> Json:
    try:
        call = json.loads(text)
    except ValueError:
        return {}
    return call if isinstance(call, dict) else {}


def _print(matched: bool, show: bool, asked: str, said: str) -> None:
    if show or not matched:
        print(f"{'    ' if matched else 'MISS'}  {asked}\n      > {said}")


def _share(good: int, total: int) -> str:
    return f"{good}/{total} ({good / total:.0%})"
