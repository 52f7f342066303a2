"""From a hub id to a directory of verified files."""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.progress import Progress, size_text
from sluice_worker.weights.cache import SPARE_BYTES, RepoCache
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub import HubError, HubRepo
from sluice_worker.weights.hub_file import HubFile, Listing
from sluice_worker.weights.integrity import check_whole
from sluice_worker.weights.lease import Lease, LeaseLost
from sluice_worker.weights.options import DownloadOptions
from sluice_worker.weights.report import LoadReport
from sluice_worker.weights.resolution import Resolver
from sluice_worker.weights.transfer import Damaged, PartialTaken, Stopped, Transfer

log = logging.getLogger(__name__)

#: How often progress is told, and the watchdog looks.
TICK_SECONDS = 0.25

CONFIG = "config.json"

#: Looks at the config files in a directory. Raises ModelNotUsable for what cannot be served.
Inspect = Callable[[Path], object]


class Download:
    """One model's way into the cache."""

    def __init__(
        self,
        repo_id: str,
        revision: str | None,
        options: DownloadOptions,
        report: LoadReport,
        stop: threading.Event,
        inspect: Inspect | None = None,
    ) -> None:
        """``inspect`` may refuse the model by its config, before its weights are fetched."""
        read_seconds = max(1.0, min(10.0, options.stall_seconds / 3))
        self._repo = HubRepo(repo_id, revision, read_seconds)
        self._cache = RepoCache(repo_id)
        self._options = options
        self._report = report
        self._stop = stop
        self._inspect = inspect
        self._commit = ""
        self._files: list[HubFile] = []

    def run(self) -> Path:
        """The directory of the model's verified files. Blocks; may be called once.

        Raises ModelNotUsable, and Stopped when ``stop`` is set.
        """
        resolver = Resolver(self._repo, self._cache, self._options, self._report, self._stop)
        try:
            listing = resolver.resolve()
            try:
                self._have(listing)
            except (HubError, ModelNotUsable, OSError) as error:
                older = resolver.known
                if older is None or older == listing:
                    raise
                log.warning("an older copy, which is in the cache, is used: %s", error)
                self._have(older)
        except HubError as error:
            raise ModelNotUsable(str(error), error.detail) from error
        except OSError as error:
            raise ModelNotUsable(
                f"the cache volume cannot be used ({error.strerror or 'input or output error'}): "
                "make it writable, or larger",
                str(error),
            ) from error
        return self._cache.snapshot(self._commit)

    def _have(self, listing: Listing) -> None:
        """Have a commit's files verified in the cache."""
        self._commit = listing.commit
        self._files = sorted(listing.files, key=lambda file: file.size)
        while not (self._verify_stored() if self._all_stored() else self._fetch_missing()):
            pass
        self._finish()

    def _all_stored(self) -> bool:
        return all(self._cache.stored(self._commit, file) for file in self._files)

    def _verify_stored(self) -> bool:
        """Verify what is all there. False if a file was wrong and is to be fetched."""
        transfer = self._transfer(None)
        try:
            self._run(transfer, transfer.verify_stored, beat=_no_beat)
        except Damaged:
            return False
        return True

    def _fetch_missing(self) -> bool:
        """Become the downloader, or wait for the one that is. False: look again."""
        if self._repo.offline:
            raise self._repo.offline_error()
        self._check_space()
        self._cache.prepare(self._commit)
        lease = Lease(self._cache.lease_path)
        self._report.state(pb.WORKER_STATE_DOWNLOADING)
        while not lease.try_acquire():
            self._report.progress(lease.others_progress())
            self._report.note("another worker downloads it into the same cache")
            if self._stop.wait(TICK_SECONDS):
                raise Stopped
            if self._all_stored():
                return False
        try:
            with lease:
                self._check_space()
                transfer = self._transfer(lease)
                self._run(transfer, partial(self._fetch, transfer), beat=lease.beat)
        except (LeaseLost, PartialTaken):
            log.warning("another process has taken the download over")
            return False
        return True

    def _fetch(self, transfer: Transfer, file: HubFile) -> None:
        transfer.ensure(file)
        if file.name == CONFIG and self._inspect:  # one of the first, for it is small
            self._inspect(self._cache.snapshot(self._commit))

    def _transfer(self, lease: Lease | None) -> Transfer:
        there = {file: self._cache.bytes_there(self._commit, file) for file in self._files}
        return Transfer(self._repo, self._cache, self._commit, lease, there)

    def _run(
        self,
        transfer: Transfer,
        job: Callable[[HubFile], None],
        beat: Callable[[Progress], None],
    ) -> None:
        """Do ``job`` for every file, several at once; tell how far it is until all are done."""
        jobs: queue.SimpleQueue[list[HubFile]] = queue.SimpleQueue()
        outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        same_content = defaultdict(list)  # one blob, and so one job
        for file in self._files:
            same_content[file.digest].append(file)
        for files in same_content.values():
            jobs.put(files)
        left = len(same_content)
        for _ in range(min(self._options.connections, left)):
            # Daemons: the process's end must not wait for a socket that says nothing.
            work = threading.Thread(target=_work, args=(transfer, job, jobs, outcomes), daemon=True)
            work.start()
        try:
            while left:
                beat(self._tell(transfer))
                self._check_stall(transfer)
                if self._stop.is_set():
                    raise Stopped
                try:
                    outcome = outcomes.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    continue
                if outcome is not None:
                    raise outcome
                left -= 1
            self._tell(transfer)
        finally:
            transfer.stop.set()

    def _tell(self, transfer: Transfer) -> Progress:
        hashing = transfer.fetched.finished
        state = pb.WORKER_STATE_VERIFYING if hashing else pb.WORKER_STATE_DOWNLOADING
        progress = (transfer.hashed if hashing else transfer.fetched).progress()
        trouble = transfer.trouble
        self._report.state(state)
        self._report.progress(progress)
        self._report.note(f"{trouble}; trying again" if trouble else "")
        return progress

    def _check_stall(self, transfer: Transfer) -> None:
        quiet = min(transfer.fetched.quiet_seconds, transfer.hashed.quiet_seconds)
        if not transfer.fetched.finished and quiet > self._options.stall_seconds:
            trouble = transfer.trouble
            raise ModelNotUsable(
                f"the download of {self._repo.repo_id} has stood still for {quiet:.0f} s "
                f"(DOWNLOAD_STALL_SECONDS): {trouble or 'the hub sends nothing'}; "
                "what is there is kept for the next try",
                trouble.detail if trouble else "",
            )

    def _check_space(self) -> None:
        needed = self._cache.bytes_missing(self._commit, self._files)
        free = self._cache.free_bytes()
        if needed and needed + SPARE_BYTES > free:
            raise ModelNotUsable(
                f"{self._repo.repo_id} needs {size_text(needed)} more on the cache volume "
                f"and {size_text(free)} are free: make room, or give a larger volume",
                str(self._cache.root),
            )

    def _finish(self) -> None:
        """All files are verified: check that they make a whole, and write that down last."""
        check_whole(self._cache.snapshot(self._commit))
        try:
            self._cache.note_commit(self._repo.revision, self._commit)
            self._cache.note_complete(self._commit, self._options.variant, self._files)
        except OSError as error:
            log.info("no record of completion, for the cache cannot be written: %s", error)


def _no_beat(progress: Progress) -> None:
    """Verifying needs no lease: it writes nothing that another process could not write too."""


def _work(
    transfer: Transfer,
    job: Callable[[HubFile], None],
    jobs: queue.SimpleQueue[list[HubFile]],
    outcomes: queue.SimpleQueue[BaseException | None],
) -> None:
    """Do job after job; tell the outcome of each."""
    while not transfer.stop.is_set():
        try:
            files = jobs.get_nowait()
        except queue.Empty:
            return
        try:
            for file in files:
                job(file)
        except BaseException as error:  # noqa: BLE001 (raised where the outcomes are read)
            outcomes.put(error)
            return
        outcomes.put(None)
