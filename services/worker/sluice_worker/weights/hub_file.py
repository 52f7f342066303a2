"""What the hub says of a repository's files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository's root. ``digest``: SHA-256, or git's blob id, in hexadecimal."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one commit."""

    commit: str
    files: tuple[HubFile, ...]
    gated: bool = False
