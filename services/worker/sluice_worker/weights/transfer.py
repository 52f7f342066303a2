"""Gets one file: stored and verified, or from the hub, gone on with after every interruption."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

from sluice_worker.progress import Meter
from sluice_worker.weights.cache import RepoCache, Stamp, stamp_of
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub import HubError, HubRepo, RangeRefused
from sluice_worker.weights.hub_file import HubFile
from sluice_worker.weights.integrity import matches
from sluice_worker.weights.lease import Lease

log = logging.getLogger(__name__)

#: How often a file is fetched whole again because its content was wrong.
WRONG_CONTENT_MAX = 2

#: How often a thread looks whether the lease is sure again.
LEASE_LOOK_SECONDS = 0.05

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Stopped(Exception):
    """The work was called off."""


class Damaged(Exception):
    """A file in the cache was not what it should be, and is gone."""


class PartialTaken(Exception):
    """The partial file is gone: another process has taken the download over."""


class WrongContent(Exception):
    """The hub sent other bytes than it announced."""


class Transfer:
    """Has files of one commit in a cache, of which ``there`` says how much of each is there.

    Its methods may be called from several threads, each with another content. ``fetched``
    counts bytes that are there, ``hashed`` those that were hashed. ``trouble`` is what the last
    request failed with; None once bytes came again. Only the holder of a lease may ``ensure``.
    """

    def __init__(
        self,
        repo: HubRepo,
        cache: RepoCache,
        commit: str,
        lease: Lease | None,
        there: dict[HubFile, int],
    ) -> None:
        self.stop = threading.Event()
        self.trouble: HubError | None = None
        self._repo = repo
        self._cache = cache
        self._commit = commit
        self._lease = lease
        self._there = there
        total = sum(file.size for file in there)
        self.fetched = Meter(total, sum(there.values()))
        self.hashed = Meter(total)

    def verify_stored(self, file: HubFile) -> None:
        """Verify a file that is there whole. Removes a wrong one and raises Damaged."""
        path = self._cache.stored(self._commit, file)
        if path is None:
            raise Damaged
        try:
            # Before it is hashed: what is written to it later must not pass for verified.
            stamp = stamp_of(path)
            if self._cache.is_verified(file, stamp):
                self.hashed.add(file.size, file.name)
            elif not self._matches(path, file):
                log.warning("%s in the cache is damaged and is removed", file.name)
                self._cache.discard(self._commit, file, path, stamp)
                raise Damaged
        except FileNotFoundError as error:  # removed by another process
            raise Damaged from error
        self._note_verified(file, path, stamp)

    def ensure(self, file: HubFile) -> None:
        """Have the file verified in the cache.

        Raises ModelNotUsable, HubError for what cannot pass, PartialTaken, Stopped.
        """
        if self._cache.stored(self._commit, file):
            try:
                self.verify_stored(file)
            except Damaged:
                pass
            else:
                self._count(file, file.size)
                return
        for _ in range(WRONG_CONTENT_MAX):
            try:
                if self._fetch_verified(file):
                    return
            except FileNotFoundError as error:
                raise PartialTaken from error
            log.warning("%s came with wrong content and is fetched again", file.name)
            self._cache.discard_partials(file)
        raise ModelNotUsable(
            f"{file.name} came {WRONG_CONTENT_MAX} times with other content than the hub announces "
            "(size or hash): a proxy or mirror in between may be at fault; try again later"
        )

    def _fetch_verified(self, file: HubFile) -> bool:
        """Fetch what is missing, verify and publish. False if the content is wrong."""
        assert self._lease is not None
        partial = self._cache.claim_partial(file, self._lease.holder.name)
        self._count(file, min(partial.stat().st_size, file.size))
        try:
            self._fetch(file, partial)
        except WrongContent:
            return False
        stamp = stamp_of(partial)
        if not self._matches(partial, file):
            return False
        self._await_lease()
        self._cache.publish(partial, self._commit, file, stamp)
        return True

    def _count(self, file: HubFile, there: int) -> None:
        """So many bytes of the file are there, whatever was thought before."""
        if more := there - self._there[file]:
            self._there[file] = there
            self.fetched.add(more, file.name)

    def _await_lease(self) -> None:
        """Return once it is sure that the download is still this process's. Raises Stopped.

        A process that was stopped and wakes up must not write to what is another's by now.
        """
        while self._lease is not None and not self._lease.fresh:
            if self.stop.wait(LEASE_LOOK_SECONDS):
                raise Stopped

    def _matches(self, path: Path, file: HubFile) -> bool:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            self.hashed.add(count, file.name)
            if self.stop.is_set():
                raise Stopped

        right = matches(path, file.digest, on_bytes)
        if not right:
            self.hashed.add(-done)
        return right

    def _note_verified(self, file: HubFile, path: Path, stamp: Stamp) -> None:
        try:
            self._cache.note_verified(self._commit, file, path, stamp)
        except OSError as error:
            named = path == self._cache.snapshot(self._commit) / file.name
            if not (named and error.errno in _READ_ONLY):
                raise
            # It has its name: nothing is lost but that it is verified again at the next start.

    def _fetch(self, file: HubFile, partial: Path) -> None:
        """Fetch until the partial file is whole. Goes on where the last request stopped."""
        pauses = 0
        while (size := partial.stat().st_size) < file.size:
            try:
                self._one_request(file, partial, size)
            except RangeRefused as error:
                raise WrongContent from error
            except HubError as error:
                if not error.may_pass:
                    raise
                self.trouble = error
                log.warning("%s at byte %d: %s %s", file.name, size, error, error.detail)
                moved = partial.stat().st_size > size
                pauses = 0 if moved else pauses + 1
                self._pause(error, pauses)
        if size > file.size:
            raise WrongContent

    def _one_request(self, file: HubFile, partial: Path, offset: int) -> None:
        descriptor = os.open(partial, os.O_WRONLY)
        try:
            with self._repo.open(file.name, self._commit, offset) as body:
                position = body.offset
                for chunk in body.chunks:
                    if self.stop.is_set():
                        raise Stopped
                    # A server that cannot go on in the middle sends what is there already again.
                    new = chunk[max(0, offset - position) :]
                    position += len(chunk)
                    if position > file.size:
                        raise WrongContent
                    self._await_lease()
                    _write(descriptor, new, position - len(new))
                    self._count(file, max(offset, position))
                    self.fetched.excuse(0)  # bytes move, be they new or not
                    self.trouble = None
            if position < file.size:
                raise HubError("the connection ended early", may_pass=True)
        finally:
            os.close(descriptor)

    def _pause(self, error: HubError, count: int) -> None:
        """Wait before the next request."""
        seconds = error.pause_seconds(count)
        if error.retry_after is not None:
            self.fetched.excuse(seconds)
        if self.stop.wait(seconds):
            raise Stopped


def _write(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
