"""Which slots hold the keys and values of which prompts.

Prompts are computed in tiles at fixed places, bit for bit the same whatever is beside them
(``batch.TILE``). So a whole tile that one row computed is what another would compute, if all
tokens up to its end are the same. Generated tokens are not in here: computed as a prompt they
may differ in their last bits. They are once a later prompt has them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Match(NamedTuple):
    """A slot whose first tokens are those of a prompt."""

    slot: int
    tokens: int


@dataclass(slots=True)
class _Node:
    """The end of a tile: what may follow, and the slots that have all tiles up to here."""

    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)
    slots: dict[int, None] = field(default_factory=dict)  # in the order in which they came


class PrefixIndex:
    """A trie of tiles. Exact: tokens are compared, not hashes that an attacker could match."""

    def __init__(self, tile: int) -> None:
        self._tile = tile
        self._root = _Node()
        self._paths: dict[int, list[tuple[int, ...]]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def insert(self, slot: int, tokens: Sequence[int]) -> None:
        """``slot`` holds the whole tiles of ``tokens``, and nothing else."""
        self.remove(slot)
        path = list(self._tiles(tokens, len(tokens)))
        if not path:
            return
        self._paths[slot] = path
        node = self._root
        for tile in path:
            node = node.children.setdefault(tile, _Node())
            node.slots[slot] = None

    def remove(self, slot: int) -> None:
        """``slot`` holds nothing."""
        node = self._root
        for tile in self._paths.pop(slot, ()):
            child = node.children[tile]
            del child.slots[slot]
            if not child.slots:  # nor do its children have any
                del node.children[tile]
                return
            node = child

    def held(self, slot: int) -> int:
        """Tokens that ``slot`` holds."""
        return len(self._paths.get(slot, ())) * self._tile

    def longest(self, tokens: Sequence[int], most: int) -> tuple[list[int], int]:
        """The slots with the longest common beginning, of up to ``most`` tokens, and it."""
        node, count = self._root, 0
        for tile in self._tiles(tokens, most):
            child = node.children.get(tile)
            if child is None:
                break
            node, count = child, count + self._tile
        return list(node.slots), count

    def covering(self, slot: int) -> list[int]:
        """Other slots that hold all that ``slot`` holds."""
        node = self._root
        for tile in self._paths.get(slot, ()):
            node = node.children[tile]
        return [other for other in node.slots if other != slot]

    def covered(self, slot: int) -> list[int]:
        """Other slots of whose tokens ``slot`` holds all."""
        node, found = self._root, []
        for depth, tile in enumerate(self._paths.get(slot, ()), 1):
            node = node.children[tile]
            found += [s for s in node.slots if s != slot and len(self._paths[s]) == depth]
        return found

    def _tiles(self, tokens: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
        for at in range(0, most - self._tile + 1, self._tile):
            yield tuple(tokens[at : at + self._tile])


class PrefixCache:
    """What running rows hold, and what rows that ended left in their slots.

    A slot that was left rests until its place or its blocks are needed; the one whose
    tokens were not asked for the longest goes first.
    """

    def __init__(self, tile: int, *, enabled: bool) -> None:
        self._index = PrefixIndex(tile)
        self._resting: OrderedDict[int, int] = OrderedDict()
        self._tile = tile
        self.enabled = enabled
        self.queries = 0
        self.hits = 0

    @property
    def blocks(self) -> int:
        """Blocks of all slots that rest."""
        return sum(self._resting.values())

    def count(self, queried: int, hit: int) -> None:
        """Count a prompt's tokens, and those of them that were there."""
        self.queries += queried
        self.hits += hit

    def match(self, prompt: Sequence[int], most: int) -> Match | None:
        """The best slot to take up to ``most`` of the prompt's first tokens from."""
        if not self.enabled:
            return None
        slots, tokens = self._index.longest(prompt, most)
        if not tokens:
            return None
        slot = min(slots, key=lambda slot: not self.spent(Match(slot, tokens)))
        if slot in self._resting:
            self._resting.move_to_end(slot)
        return Match(slot, tokens)

    def spent(self, match: Match) -> bool:
        """Whether the slot rests and holds no more than what matches: it can be gone on with."""
        return match.slot in self._resting and self._index.held(match.slot) == match.tokens

    def publish(self, slot: int, prompt: Sequence[int]) -> None:
        """A running row has computed its prompt, and what came of it is sound."""
        if self.enabled:
            self._index.insert(slot, prompt)

    def held(self, slot: int) -> int:
        """Tokens of ``slot`` that are worth to be kept."""
        return 0 if self._index.covering(slot) else self._index.held(slot)

    def rest(self, slot: int, blocks: int) -> list[int]:
        """The row of ``slot`` ended and left ``blocks``. Gives slots that need rest no more."""
        self._resting[slot] = blocks
        return [other for other in self._index.covered(slot) if other in self._resting]

    def oldest(self, spared: int | None) -> int | None:
        """The slot to clear next, but for ``spared``.

        Of the older half the first: rows in neighbouring slots share calls of attention.
        """
        slots = [slot for slot in self._resting if slot != spared]
        return min(slots[: (len(slots) + 1) // 2], default=None)

    def resting(self, slot: int) -> int | None:
        """Blocks of a slot that rests, or None if it does not."""
        return self._resting.get(slot)

    def forget(self, slot: int) -> int:
        """``slot`` holds nothing of worth. Gives the blocks if it rested."""
        self._index.remove(slot)
        return self._resting.pop(slot, 0)
