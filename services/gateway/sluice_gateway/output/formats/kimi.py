"""Kimi K2's calls: each has an id, from which its name is read, and JSON for arguments.

All are between marks "tool calls section begin" and "... end", each between "tool call begin" and
"tool call end": ``functions.NAME:NUMBER``, the mark before the arguments, the arguments. The
number counts the calls of a conversation.
"""

from __future__ import annotations

import re

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Steps
from sluice_gateway.output.formats.sections import Section, section

SECTION_BEGIN, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL_BEGIN, CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
ARGUMENTS_BEGIN = "<|tool_call_argument_begin|>"
PREFIX = "functions."

_ID = re.compile(rf"\s*(?:{re.escape(PREFIX)})?([A-Za-z0-9_-]+)(?::\d+)?\s*")


def _head(parse: Parse) -> Steps[tuple[str, str]]:
    written = yield from parse.reader.upto(ARGUMENTS_BEGIN, NAME_MAX + len(PREFIX) + 16)
    yield from parse.reader.spaces()
    found = _ID.fullmatch(written or "")
    return (found[1], written or "") if found else ("", "")


#: Reads content and calls.
kimi = section(Section(SECTION_BEGIN, SECTION_END, CALL_BEGIN, CALL_END), _head)
