"""An output machine for answers that may hold reasoning and calls of tools."""

from __future__ import annotations

import json
from typing import Unpack

from sluice_gateway.output.detokenizer import Detokenizer
from sluice_gateway.output.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.formats import AnswerEvent, AnswerMachine, ContentDelta
from sluice_gateway.output.formats import ReasoningDelta as Thought
from sluice_gateway.output.formats import ToolCallStart as Call
from sluice_gateway.output.logprobs import TokenBytes, TokenLogprob
from sluice_gateway.output.machine import Options, OutputMachine


class AnsweringMachine(OutputMachine):
    """Hands the text on to an AnswerMachine, and gives its events their tokens.

    A token belongs to the event that tells its text. The tokens of markup go with the event that
    comes next. Log-probabilities are told of content alone: those of reasoning and of markup are
    dropped.
    """

    __slots__ = ("_answer", "_arguments", "_names_tool", "_says_content")

    def __init__(
        self,
        detokenizer: Detokenizer,
        names: TokenBytes,
        answer: AnswerMachine,
        *,
        names_tool: bool = False,
        **options: Unpack[Options],
    ) -> None:
        """Begin a choice. ``names_tool``: the client named the tool that is called."""
        super().__init__(detokenizer, names, **options)
        self._answer = answer
        self._names_tool = names_tool
        self._arguments: list[str] = []  # of the last call, where a stop string may cut them
        self._plain = False
        self._notes_all = True
        self._says_content = True  # what was told last, if anything, is content

    def _emit(self, text: str) -> list[Event]:
        return [*map(self._told, self._answer.feed(text))] if text else []

    def _last(self, text: str, reason: FinishReason, by_stop_string: bool) -> list[Event]:
        said = self._answer.feed(text) if text else []
        said += self._answer.close(truncated=reason == "length" or by_stop_string)
        events: list[Event] = [*map(self._told, said)]
        events += self._rest()
        if reason == "stop" and self._answer.calls and not self._names_tool:
            # A call that a stop string cut off is none that anybody could carry out.
            reason = "stop" if by_stop_string and not self._is_whole() else "tool_calls"
        return [*events, Finished(reason, by_stop_string)]

    def _is_whole(self) -> bool:
        """Whether the last call's arguments came to their end."""
        try:
            json.loads("".join(self._arguments))
        except (ValueError, RecursionError):
            return False
        return True

    def _told(self, event: AnswerEvent) -> Delta:
        """The event with the tokens whose text has been told with it."""
        tokens = self._tokens(event.end)
        self._says_content = isinstance(event, ContentDelta)
        ids = [token_id for _, _, token_id, _ in tokens] if self._token_ids else ()
        if isinstance(event, ContentDelta):
            begin = event.end - len(event.text)
            # A token that has no text yet, half a character, ends where it begins.
            entries = [
                found
                for start, end, _, found in tokens
                if found is not None and (end > begin or start >= begin)
            ]
            return TextDelta(event.text, ids, entries or None)
        if isinstance(event, Thought):
            self.reasoning_tokens += len(tokens)
            return ReasoningDelta(event.text, ids)
        if isinstance(event, Call):
            self._arguments.clear()
            return ToolCallStart(event.index, event.id, event.name, ids)
        if self._stops is not None:
            self._arguments.append(event.text)
        return ToolArguments(event.index, event.text, ids)

    def _tokens(self, end: int) -> list[tuple[int, int, int, TokenLogprob | None]]:
        """Take the tokens that begin before ``end``: start, end, id and log-probability of each."""
        taken = []
        queue = self._queue
        while queue and queue[0][0] < end:
            start, token_id, found = queue.popleft()
            taken.append((start, queue[0][0] if queue else self._received, token_id, found))
        return taken

    def _rest(self) -> list[Event]:
        """What is left of the tokens, which have no text that is told: the stop token's mostly."""
        ids = [token_id for _, token_id, _ in self._queue] if self._token_ids else []
        entries = [found for _, _, found in self._queue if found is not None]
        self._queue.clear()
        if not self._says_content:
            entries = []
        return [TextDelta("", ids, entries or None)] if ids or entries else []
