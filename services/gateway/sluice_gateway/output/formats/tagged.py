"""Calls as JSON behind a mark, or with nothing before them at all."""

from __future__ import annotations

from sluice_gateway.output.formats.json_calls import calls
from sluice_gateway.output.formats.parse import NAME_MAX, Parse, Read
from sluice_gateway.output.formats.reader import NO_MARKS, Marks, Steps

PYTHON_TAG = "<|python_tag|>"
TOOL_CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"


def tagged(opening: str, closing: str = "", *, also: str = "") -> Read:
    """JSON between two marks, or from a mark to the end; an object, or a list of them.

    Hermes, Qwen: ``<tool_call>`` for each call. Phi, Granite: ``<|tool_call|>`` before a list.
    ``also``: another mark that may open it.
    """
    opens = Marks((opening, also) if also else (opening,))
    closes = Marks((closing,)) if closing else NO_MARKS

    def read(parse: Parse) -> Steps[None]:
        while (mark := (yield from parse.rest(opens))) is not None:
            parse.reader.record(mark)
            yield from parse.reader.spaces()
            yield from json_calls(parse, closing, closes)

    return read


def json_calls(parse: Parse, closing: str = "", closes: Marks = NO_MARKS) -> Steps[None]:
    """Calls in JSON and the mark after them. The tape runs."""
    found = yield from calls(parse)
    parse.give_back(marked=True)
    if found == "broken":
        yield from parse.broken_arguments(closes)
    elif found == "calls" and closing:
        yield from parse.skip(closing)


def bare(tag: str | None = None) -> Read:
    """JSON at the beginning of the answer, with nothing around it, or behind ``tag``.

    Llama 3 writes ``{"name": ..., "parameters": ...}``, sometimes behind ``<|python_tag|>``,
    and separates calls by ";". JSON that names no tool of the request is content.
    """
    tags = Marks((tag,)) if tag else NO_MARKS

    def read(parse: Parse) -> Steps[None]:
        reader = parse.reader
        reader.record()
        yield from reader.spaces()
        if tag:
            yield from reader.match(tag)
            yield from reader.spaces()
        while True:
            yield from _bare_calls(parse)
            found = yield from parse.rest(tags)
            if found is None:
                return
            reader.record(found)
            yield from reader.spaces()

    return read


def _bare_calls(parse: Parse) -> Steps[None]:
    """Calls, one after the other. The tape runs; afterwards it has ended."""
    reader = parse.reader
    while True:
        before = parse.outlet.calls
        found = yield from calls(parse, known=True)
        if found == "broken":
            yield from parse.broken_arguments()
            return
        if parse.outlet.calls == before:
            parse.give_back()
            return
        parse.give_back()
        reader.record()
        yield from reader.spaces()
        yield from reader.match(";")
        yield from reader.spaces()
        if (yield from reader.peek()) not in ("{", "["):
            parse.give_back()
            return


def mistral(parse: Parse) -> Steps[None]:
    """Mistral: ``[TOOL_CALLS]`` before a list in JSON, or, in newer models, before each call.

    The newer ones write ``[TOOL_CALLS]name[ARGS]{...}``; those of tokenizer v11 have
    ``[CALL_ID]`` and an id of nine characters behind the name.
    """
    opens = Marks((TOOL_CALLS,))
    reader = parse.reader
    while (yield from parse.rest(opens)) is not None:
        reader.record(TOOL_CALLS)
        yield from reader.spaces()
        if (yield from reader.peek()) in ("{", "["):
            yield from json_calls(parse)
            continue
        name = yield from reader.word(NAME_MAX)
        model_id = ""
        if (yield from reader.match(CALL_ID)):
            model_id = yield from reader.word(NAME_MAX)
        yield from reader.match(ARGS)
        yield from reader.spaces()
        if not name or (yield from reader.peek()) != "{":
            parse.give_back(marked=True)
            continue
        parse.start(name, model_id)
        if not (yield from reader.value(parse.outlet.arguments)):
            yield from parse.broken_arguments()
