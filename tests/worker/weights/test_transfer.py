"""One file, by a process that may have been stopped, or robbed of its partial file."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sluice_worker.weights import lease as lease_module
from sluice_worker.weights.cache import RepoCache, stamp_of
from sluice_worker.weights.download import Download
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.hub import Body
from sluice_worker.weights.hub_file import HubFile
from sluice_worker.weights.lease import Lease
from sluice_worker.weights.options import DownloadOptions
from sluice_worker.weights.transfer import Damaged, PartialTaken, Stopped, Transfer

from tests.worker.weights.reports import Remembered

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = bytes(range(200)) * 50
FILE = HubFile("model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())


class FakeRepo:
    """Sends DATA in two chunks; ``between`` is called between them."""

    def __init__(self) -> None:
        self.between: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def open(self, name: str, commit: str, offset: int = 0) -> Iterator[Body]:
        def chunks() -> Iterator[bytes]:
            yield DATA[offset:5_000]
            self.between()
            yield DATA[max(offset, 5_000) :]

        yield Body(offset, chunks())


class Setup:
    def __init__(self, root: Path) -> None:
        self.cache = RepoCache("org/model", root)
        self.cache.prepare(COMMIT)
        self.lease = Lease(self.cache.lease_path)
        assert self.lease.try_acquire()
        self.repo = FakeRepo()
        self.transfer = self.new(0)

    def new(self, there: int) -> Transfer:
        return Transfer(self.repo, self.cache, COMMIT, self.lease, {FILE: there})  # type: ignore[arg-type]

    @property
    def published(self) -> Path:
        return self.cache.snapshot(COMMIT) / FILE.name

    def partials(self) -> list[Path]:
        return list((self.cache.root / ".sluice" / "partial").iterdir())


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_a_file_is_fetched_verified_and_counted(setup: Setup) -> None:
    setup.transfer.ensure(FILE)
    assert setup.published.read_bytes() == DATA
    assert setup.transfer.fetched.finished
    assert setup.transfer.hashed.finished


@pytest.mark.parametrize("thought", [0, 300, FILE.size])
@pytest.mark.parametrize("there", [0, 2_000, FILE.size])
def test_what_is_there_counts_as_what_it_is_whatever_was_thought(
    setup: Setup, thought: int, there: int
) -> None:
    """Another partial file than the one that was counted, or a blob that is damaged."""
    setup.cache.claim_partial(FILE, "other").write_bytes(DATA[:there])
    transfer = setup.new(thought)
    transfer.ensure(FILE)
    assert transfer.fetched.progress().bytes_done == FILE.size
    assert transfer.fetched.finished


def test_a_process_that_was_stopped_writes_nothing_before_it_is_sure_of_its_lease(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()

    def wake_up() -> None:
        setup.lease._beat_at -= lease_module.STALE_SECONDS  # as after a long SIGSTOP
        reached.set()

    setup.repo.between = wake_up
    work = threading.Thread(target=setup.transfer.ensure, args=(FILE,))
    work.start()
    assert reached.wait(30)
    work.join(0.3)
    assert work.is_alive()
    assert setup.partials()[0].stat().st_size == 5_000
    setup.lease.beat(setup.transfer.fetched.progress())  # it is its own still
    work.join(30)
    assert setup.published.read_bytes() == DATA


def test_a_process_that_has_lost_its_lease_writes_nothing_more(setup: Setup) -> None:
    outcome: list[BaseException] = []
    reached = threading.Event()

    def wake_up() -> None:
        setup.lease._beat_at -= lease_module.STALE_SECONDS
        reached.set()

    def ensure() -> None:
        try:
            setup.transfer.ensure(FILE)
        except Stopped as stopped:
            outcome.append(stopped)

    setup.repo.between = wake_up
    work = threading.Thread(target=ensure)
    work.start()
    assert reached.wait(30)
    setup.transfer.stop.set()
    work.join(30)
    assert len(outcome) == 1
    assert setup.partials()[0].stat().st_size == 5_000
    assert not setup.published.exists()


def test_a_partial_file_that_another_process_took_is_not_an_error_of_the_disk(
    setup: Setup,
) -> None:
    setup.repo.between = lambda: setup.cache.claim_partial(FILE, "other") and None
    with pytest.raises(PartialTaken):
        setup.transfer.ensure(FILE)


def test_a_file_that_is_mended_while_it_is_hashed_is_not_removed(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.transfer.ensure(FILE)
    setup.published.resolve().write_bytes(DATA[::-1])
    verifying = setup.new(FILE.size)
    matches = verifying._matches

    def slow(path: Path, file: HubFile) -> bool:
        right = matches(path, file)
        fresh = path.resolve().with_name("fresh")
        fresh.write_bytes(DATA)
        fresh.replace(path.resolve())
        return right

    monkeypatch.setattr(verifying, "_matches", slow)
    with pytest.raises(Damaged):  # look again
        verifying.verify_stored(FILE)
    assert setup.published.read_bytes() == DATA


def test_a_verified_file_is_neither_hashed_nor_written_down_again(setup: Setup) -> None:
    setup.transfer.ensure(FILE)
    record = next((setup.cache.root / ".sluice" / "verified").iterdir())
    before = stamp_of(record), record.stat().st_ino
    setup.new(FILE.size).verify_stored(FILE)
    assert (stamp_of(record), record.stat().st_ino) == before


def test_hashing_is_life_too(setup: Setup) -> None:
    """A large file that is hashed again can hold up the others for longer than a stall may be."""
    options = DownloadOptions(stall_seconds=30)
    download = Download("org/model", None, options, Remembered(), threading.Event())
    setup.transfer.fetched._moved_at -= 100
    download._check_stall(setup.transfer)
    setup.transfer.hashed._moved_at -= 100
    with pytest.raises(ModelNotUsable, match="has stood still"):
        download._check_stall(setup.transfer)
