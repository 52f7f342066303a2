"""How models are fetched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """``stall_seconds``: how long no byte may move before the download has failed.

    ``connections``: files fetched at once. ``pickle``: take pickled weights where there are no
    others. ``code``: take the model's Python files. ``adapter``: it is an adapter, not a model.
    """

    stall_seconds: float = 120.0
    connections: int = 4
    pickle: bool = False
    code: bool = False
    adapter: bool = False

    @property
    def variant(self) -> str:
        """Tells records of different selections of files apart."""
        chosen = {"-pickle": self.pickle, "-code": self.code, "-adapter": self.adapter}
        return "".join(name for name, wanted in chosen.items() if wanted)
