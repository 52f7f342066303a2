"""How far a model on its way is: as its worker tells it, and as clients are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.worker.v1 import worker_pb2 as pb

#: On the way to ready, the nearest last. A model is ``preparing`` when its worker is ready and the
#: gateway fetches its tokenizer.
_ON_THE_WAY = {
    "connecting": "has not been reached yet",
    "resolving": "is being looked up",
    "downloading": "is downloading",
    "verifying": "is being verified",
    "loading": "is loading",
    "warming": "is warming up",
    "preparing": "is almost ready",
}

_FAILED = ("failed", "unusable")

#: Was there and may come back: nothing is on its way.
_AWAY = ("lost", "silent", "draining")

_RANKS = {state: rank for rank, state in enumerate((*_FAILED, *_AWAY, *_ON_THE_WAY, "ready"))}

#: One of a newer release is taken for on the way, no nearer than what has not been heard.
_UNKNOWN_RANK = _RANKS["connecting"]

_RETRY_SECONDS_MAX = 3600

_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


@dataclass(frozen=True, slots=True)
class Loading:
    """A worker's state and the numbers of that state alone; None where nothing is known.

    ``eta_seconds`` is until the state's own bytes are done. How long the states after it take is
    not in it: after a download a model is verified, loaded and warmed, and nobody knows for how
    long before it was done once.
    """

    state: str
    message: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
    bytes_per_second: int | None = None
    eta_seconds: int | None = None
    file: str = ""

    @classmethod
    def of(cls, state: str, status: pb.Status | None) -> Loading:
        """From a worker's last status; ``state`` is what the gateway makes of it."""
        if status is None or _RANKS.get(state, _UNKNOWN_RANK) <= _RANKS["connecting"]:
            return cls(state)  # what was last said holds no longer
        total = status.bytes_total or None
        return cls(
            state=state,
            message=" ".join(status.message.split()),
            bytes_done=status.bytes_done if total else status.bytes_done or None,
            bytes_total=total,
            bytes_per_second=status.bytes_per_second if total else status.bytes_per_second or None,
            eta_seconds=status.eta_seconds if status.HasField("eta_seconds") else None,
            file=status.file,
        )

    @property
    def on_its_way(self) -> bool:
        """Whether the worker is getting ready; not one that is, is lost or has failed."""
        return self.state not in ("ready", *_AWAY, *_FAILED)

    @property
    def failed(self) -> bool:
        """Whether the worker cannot serve its model and does nothing about it."""
        return self.state in _FAILED

    @property
    def progress(self) -> tuple[int, float]:
        """How near to ready, to be compared: of several workers the furthest on speaks."""
        share = (self.bytes_done or 0) / self.bytes_total if self.bytes_total else 0.0
        return _RANKS.get(self.state, _UNKNOWN_RANK), share

    @property
    def retry_after(self) -> int:
        """Seconds after which to ask again: when this state's bytes are done, if that is known."""
        if self.eta_seconds is not None:
            return min(max(self.eta_seconds, 1), _RETRY_SECONDS_MAX)
        return 5 if self.state == "downloading" else 2

    def as_json(self) -> dict[str, Any]:
        """The public object ``loading``."""
        return {
            "state": self.state,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "bytes_per_second": self.bytes_per_second,
            "eta_seconds": self.eta_seconds,
            "file": self.file or None,
            "message": self.message or None,
        }

    def sentence(self, name: str | None) -> str:
        """For humans: how far the model of that name is, and what its worker has to say."""
        if self.state == "connecting":
            return "No worker has been reached yet."
        does = _ON_THE_WAY.get(self.state, f"is not ready yet: {self.state}")
        numbers = ", ".join(part for part in (self._bytes(), self._time_left()) if part)
        sentence = f"The model `{name}` {does}{': ' if numbers else ''}{numbers}."
        if self.message:
            sentence += f" {self.message[0].upper()}{self.message[1:].removesuffix('.')}."
        return sentence

    def _bytes(self) -> str:
        if self.bytes_done is None:
            return ""
        most = self.bytes_total or self.bytes_done
        unit, size = next((each for each in _UNITS if most >= each[1]), ("B", 1))
        digits = 0 if size == 1 else 1
        done = f"{self.bytes_done / size:.{digits}f}"
        if self.bytes_total is None:
            return f"{done} {unit} so far"
        percent = min(100, self.bytes_done * 100 // self.bytes_total)
        return f"{done} of {self.bytes_total / size:.{digits}f} {unit} ({percent} %)"

    def _time_left(self) -> str:
        seconds = self.eta_seconds
        if seconds is None:
            return ""
        if seconds < 100:
            return f"about {max(seconds, 1)} s left"
        if seconds < 100 * 60:
            return f"about {seconds / 60:.0f} min left"
        return f"about {seconds / 3600:.1f} h left"


#: Of a model of which nothing was heard.
CONNECTING = Loading("connecting")
