"""Stop strings over a stream of characters."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence


class StopStrings:
    """A set of stop strings, compiled once per request and shared by its choices.

    An Aho-Corasick automaton (Aho and Corasick, 1975): each character of the text is looked at
    once, however many stop strings there are. Node 0 is the root; a node stands for a prefix of
    a stop string, and its depth is the length of that prefix.
    """

    __slots__ = ("depths", "fails", "first", "goto", "lengths")

    def __init__(self, stops: Sequence[str]) -> None:
        if not stops or not all(stops):
            raise ValueError("stop strings must be one or more and not empty")
        self.goto: list[dict[str, int]] = [{}]
        self.fails = [0]
        self.depths = [0]
        # The length of the longest stop string that ends at the node, or 0.
        self.lengths = [0]
        for stop in stops:
            self._insert(stop)
        self._link()
        starts = "".join(re.escape(char) for char in sorted({stop[0] for stop in stops}))
        self.first = re.compile(f"[{starts}]")

    def _insert(self, stop: str) -> None:
        node = 0
        for char in stop:
            child = self.goto[node].get(char)
            if child is None:
                child = len(self.goto)
                self.goto[node][char] = child
                self.goto.append({})
                self.fails.append(0)
                self.lengths.append(0)
                self.depths.append(self.depths[node] + 1)
            node = child
        self.lengths[node] = len(stop)

    def _link(self) -> None:
        queue = deque(self.goto[0].values())
        while queue:
            node = queue.popleft()
            for char, child in self.goto[node].items():
                fail = self.fails[node]
                while fail and char not in self.goto[fail]:
                    fail = self.fails[fail]
                self.fails[child] = self.goto[fail].get(char, 0)
                queue.append(child)
            self.lengths[node] = self.lengths[node] or self.lengths[self.fails[node]]

    def step(self, node: int, char: str) -> int:
        """The node after one more character."""
        while True:
            after = self.goto[node].get(char)
            if after is not None:
                return after
            if not node:
                return 0
            node = self.fails[node]


class StopFilter:
    """Lets text through up to the first stop string, whatever pieces the text comes in.

    The match that is complete first wins; of several that end at the same character, the longest
    one. Text that may be the beginning of a stop string is held back, and nothing else.
    """

    __slots__ = ("_held", "_include", "_node", "_stops")

    def __init__(self, stops: StopStrings, *, include: bool = False) -> None:
        self._stops = stops
        self._include = include
        self._node = 0
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that may be shown, and whether a stop string ended it.

        After an end the filter must not be fed again.
        """
        stops, node, at = self._stops, self._node, 0
        lengths, step, size = stops.lengths, stops.step, len(text)
        while at < size:
            if not node:
                match = stops.first.search(text, at)
                if match is None:
                    break
                at = match.start()
            node = step(node, text[at])
            at += 1
            if lengths[node]:
                return self._cut(text[:at], lengths[node]), True
        self._node = node
        whole = self._held + text if self._held else text
        shown = len(whole) - stops.depths[node]
        self._held = whole[shown:]
        return whole[:shown], False

    def flush(self) -> str:
        """What was held back. The text has ended, so no stop string can complete."""
        held, self._held, self._node = self._held, "", 0
        return held

    def _cut(self, text: str, length: int) -> str:
        whole = self._held + text
        self._held = ""
        return whole if self._include else whole[: len(whole) - length]
