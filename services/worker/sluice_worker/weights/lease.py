"""One downloader per repository and volume, without file locks.

File locks do nothing on some network file systems and outlive nobody's death in a useful way on
others. So the lease is a file, made with O_EXCL, whose content its holder changes every second.
Who waits watches the content, by its own clock alone: a lease that stays the same for
``STALE_SECONDS`` is dead and is taken away by renaming it, which only one can do. A process that
died on this very machine is recognised at once.

A holder that was stopped for long and wakes up writes nothing before its next beat (``fresh``),
and there finds another's lease, or none, and leaves. Two holders at once are possible for a
moment, where a race is lost; that costs traffic, but nothing else: each writes to a partial file
of its own name, and only files whose hash is right are ever published.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluice_worker.progress import Progress

BEAT_SECONDS = 1.0
STALE_SECONDS = 6.0

#: Gone, or replaced on a network file system while it was being read.
_GONE = (errno.ENOENT, errno.ESTALE)


class LeaseLost(Exception):
    """Another process has taken over."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from every other one that may see the volume."""

    name: str = field(default_factory=lambda: secrets.token_hex(6))
    host: str = field(default_factory=socket.gethostname)
    #: Process ids mean something within one boot of one kernel and one namespace of it.
    namespace: str = field(default_factory=lambda: _namespace())
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: _started(os.getpid()))


class Lease:
    """The right to download into a cache. Enter it once ``try_acquire`` says yes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.holder = Holder()
        self._beats = 0
        self._beat_at = 0.0
        self._seen: bytes | None = None
        self._seen_at = 0.0
        self._remover = path.with_name(".lease.remover")
        self._blocked_at: float | None = None

    def try_acquire(self) -> bool:
        """Take the lease if it is free or dead. Raises OSError on a read-only volume."""
        content = self._content()
        if content is not None:
            if content != self._seen:
                self._seen, self._seen_at = content, time.monotonic()
            stale = time.monotonic() - self._seen_at > STALE_SECONDS
            if not (stale or _is_dead(_parse(content))):
                return False
            if not self._take_away(content):
                return False
        return self._create()

    def _create(self) -> bool:
        began = time.monotonic()
        try:
            file = self._path.open("xb", buffering=0)
        except FileExistsError:
            return False
        with file:
            try:
                file.write(self._claim(Progress()))
            except OSError:  # the volume is full: leave nothing that others would wait for
                self._path.unlink(missing_ok=True)
                raise
        self._beat_at = began
        return True

    def others_progress(self) -> Progress:
        """How far the process is that holds the lease."""
        content = _parse(self._content() or b"")
        with contextlib.suppress(KeyError, TypeError):
            return Progress(**content["progress"])
        return Progress()

    def beat(self, progress: Progress) -> None:
        """Show that the holder lives, about once a second. Raises LeaseLost."""
        now = time.monotonic()
        if now - self._beat_at < BEAT_SECONDS:
            return
        if not self._is_mine():
            raise LeaseLost
        self._beats += 1
        staged = self._path.with_name(f".lease.{self.holder.name}")
        staged.write_bytes(self._claim(progress))
        staged.replace(self._path)
        self._beat_at = now

    @property
    def fresh(self) -> bool:
        """Whether no other process can have taken the lease for dead since the last beat."""
        return time.monotonic() - self._beat_at < STALE_SECONDS - BEAT_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back, if it is still one's own."""
        with contextlib.suppress(OSError):
            if self._is_mine():
                self._path.unlink(missing_ok=True)
            self._path.with_name(f".lease.{self.holder.name}").unlink(missing_ok=True)

    def _take_away(self, dead: bytes) -> bool:
        """Remove the lease whose content is ``dead``. False if another process was quicker.

        One process at a time removes, and looks again before it does: else one that was slow could
        remove the lease of whoever has just taken over, and a third find the way free.
        """
        if not self._may_remove():
            return False
        try:
            if self._content() != dead:
                return False
            grave = self._path.with_name(f".lease.dead.{self.holder.name}")
            self._path.rename(grave)
            grave.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return False
        finally:
            self._remover.unlink(missing_ok=True)
        return True

    def _may_remove(self) -> bool:
        """Whether this is the one process that removes now; one that died at it is passed over."""
        with contextlib.suppress(FileExistsError):
            self._remover.touch(exist_ok=False)
            self._blocked_at = None
            return True
        now = time.monotonic()
        if self._blocked_at is None:
            self._blocked_at = now
        elif now - self._blocked_at > STALE_SECONDS:
            self._remover.unlink(missing_ok=True)
            self._blocked_at = None
        return False

    def _is_mine(self) -> bool:
        return bool(_parse(self._content() or b"").get("name") == self.holder.name)

    def _claim(self, progress: Progress) -> bytes:
        claim = {**asdict(self.holder), "beats": self._beats, "progress": asdict(progress)}
        return json.dumps(claim).encode()

    def _content(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise


def _parse(content: bytes) -> dict[str, Any]:
    """The claim in a lease; empty for one that is just being written."""
    with contextlib.suppress(ValueError):
        value = json.loads(content)
        if isinstance(value, dict):
            return value
    return {}


def _is_dead(claim: dict[str, Any]) -> bool:
    """Whether the holder is known to have died: it was of this machine and is no more."""
    me, pid = Holder(), claim.get("pid")
    if (claim.get("host"), claim.get("namespace")) != (me.host, me.namespace):
        return False
    if not isinstance(pid, int) or pid <= 0:
        return False
    started = _started(pid)
    return started != claim.get("started") and (bool(started) or not _exists(pid))


def _exists(pid: int) -> bool:
    """Whether there is such a process: another user's may be hidden from /proc."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return not Path(f"/proc/{pid}").exists()  # a zombie is there, and is dead


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux: only the beats tell then
        return secrets.token_hex(6)


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty if there is none, or a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if words[0] in "ZX" else words[19]
    except (OSError, IndexError):
        return ""
