"""What a model consists of: which commit, and which of its files are needed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Future

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.weights.adapter_files import select_adapter
from sluice_worker.weights.cache import RepoCache
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub import HubError, HubRepo, RevisionMissing
from sluice_worker.weights.hub_file import HubFile, Listing
from sluice_worker.weights.options import DownloadOptions
from sluice_worker.weights.report import LoadReport
from sluice_worker.weights.selection import select
from sluice_worker.weights.transfer import Stopped

log = logging.getLogger(__name__)

#: How often it is looked whether the work was called off.
LOOK_SECONDS = 0.25


class Resolver:
    """Asks the hub; when it does not answer, the cache."""

    def __init__(
        self,
        repo: HubRepo,
        cache: RepoCache,
        options: DownloadOptions,
        report: LoadReport,
        stop: threading.Event,
    ) -> None:
        self._repo = repo
        self._cache = cache
        self._options = options
        self._report = report
        self._stop = stop
        #: What an earlier run verified as a whole; perhaps of an older commit.
        self.known: Listing | None = None

    def resolve(self) -> Listing:
        """The commit, with just the files that are needed.

        Raises HubError when neither can tell, ModelNotUsable for a repository that holds no
        model, Stopped.
        """
        self._report.state(pb.WORKER_STATE_RESOLVING)
        known = self.known = self._complete()
        if known is not None and known.commit == self._repo.revision:
            return known  # a commit never changes: there is nothing to ask
        if known is not None and self._repo.offline:
            return known
        try:
            listing = self._ask(patient=known is None)
        except RevisionMissing:
            raise
        except HubError as error:
            if known is not None:
                log.warning("the cached copy is used: %s %s", error, error.detail)
                return known
            found = self._found_offline()
            if found is None:
                raise
            listing = found
        try:
            files = self._needed(listing)
        except ModelNotUsable as error:
            if self._repo.offline:  # that a file is not in the cache says nothing of the model
                raise self._repo.offline_error() from error
            raise
        return Listing(listing.commit, tuple(files), gated=listing.gated)

    def _needed(self, listing: Listing) -> list[HubFile]:
        options = self._options
        if options.adapter:
            return select_adapter(listing.files)
        return select(listing.files, pickle=options.pickle, code=options.code)

    def _complete(self) -> Listing | None:
        commit = self._cache.commit_of(self._repo.revision)
        files = self._cache.complete(commit, self._options.variant) if commit else None
        return Listing(commit, tuple(files)) if commit and files else None

    def _found_offline(self) -> Listing | None:
        """What another tool left in the cache, when the network is forbidden."""
        commit = self._cache.commit_of(self._repo.revision)
        return self._cache.found(commit) if commit and self._repo.offline else None

    def _ask(self, *, patient: bool) -> Listing:
        """The hub's listing, asked for until the watchdog's time is over if ``patient``."""
        began, pauses = time.monotonic(), 0
        while True:
            try:
                listing = self._listing()
            except HubError as error:
                waited = time.monotonic() - began
                if not (patient and error.may_pass) or waited > self._options.stall_seconds:
                    raise
                log.warning("%s %s", error, error.detail)
                self._report.note(f"{error}; trying again")
                pauses += 1
                if self._stop.wait(error.pause_seconds(pauses)):
                    raise Stopped from None
            else:
                self._report.note("")
                return listing

    def _listing(self) -> Listing:
        """Ask once, in a thread: a hub that dribbles must not hold up the end, nor for ever."""
        answer: Future[Listing] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._repo.listing())
            except BaseException as error:  # noqa: BLE001 (raised where the answer is read)
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        deadline = time.monotonic() + self._options.stall_seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return answer.result(timeout=LOOK_SECONDS)
            if self._stop.is_set():
                raise Stopped
        raise HubError(
            "the hub does not answer in time (DOWNLOAD_STALL_SECONDS): check the network, a proxy, "
            "HF_ENDPOINT"
        )
