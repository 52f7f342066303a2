"""``echo`` together with ``logprobs``: the prompt as the first event of a choice."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_gateway.logprobs_json import encoded, joined
from sluice_gateway.output import PromptDelta, TokenScore
from sluice_gateway.output.logprobs import TokenBytes, TokenLogprob, entry
from sluice_gateway.prompt_scores import PromptScores
from sluice_gateway.tokenizer import Tokenizer

#: The most prompt tokens that one request is told of, those of each choice counted.
ECHOED_TOKENS_MAX = 131_072


class Echo:
    """A prompt with its log-probabilities, which all choices of that prompt begin with.

    They are written as JSON as they come, a piece at a time: a long prompt holds up nobody.
    """

    def __init__(
        self,
        text: str,
        ids: Sequence[int],
        offsets: Sequence[int],
        scores: PromptScores,
        names: TokenBytes,
    ) -> None:
        """``offsets``: where the text of each of ``ids`` begins in ``text``, in characters."""
        self.text = text
        self._ids = ids
        self._offsets = offsets
        self._scores = scores
        self._names = names
        # Nothing comes before the first token, so there is nothing that it could follow from.
        first = TokenLogprob(names.token_bytes(ids[0]), None, offset=offsets[0])
        self._parts = [encoded([first])]
        self._done = 1
        self._told: PromptDelta | None = None

    def event(self) -> PromptDelta | None:
        """The prompt; None while the worker has not told all of it."""
        if scores := self._scores.take():
            self._parts.append(encoded(self._entries(scores)))
        if self._told is None and self._scores.complete:
            self._told = PromptDelta(self.text, joined(self._parts))
            self._parts.clear()
        return self._told

    def _entries(self, scores: Sequence[TokenScore]) -> list[TokenLogprob]:
        entries = []
        for place, score in enumerate(scores, self._done):
            found = entry(self._ids[place], score, self._names)
            found.offset = self._offsets[place]
            entries.append(found)
        self._done += len(scores)
        return entries


def text_offsets(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> list[int]:
    """Where the text of each of a text's ids begins in it, in characters.

    Special tokens that the tokenizer put around the text have none of it. Where the tokenizer
    changed the text, such as to lower case, the places are those in what became of it.
    """
    around = tokenizer.encode("", add_special_tokens=True)
    before = int(bool(around) and list(ids[:1]) == around[:1])
    after = len(around) - before
    inner = ids[before : len(ids) - after]
    places = id_offsets(tokenizer, inner, skip_special_tokens=False)
    return [0] * before + [min(place, len(text)) for place in places] + [len(text)] * after


def id_offsets(
    tokenizer: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool = True
) -> list[int]:
    """Where the text of each id begins in the text of all of them."""
    detokenizer = tokenizer.detokenizer(skip_special_tokens=skip_special_tokens)
    places, place = [], 0
    for token_id in ids:
        places.append(place)
        place += len(detokenizer.feed((token_id,)))
    return places
