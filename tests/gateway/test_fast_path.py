"""The short way of tokens, compiled and interpreted: both must say what the long way says."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import httpx
import pytest
import sluice_gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.chunks import ChatChunks, CompletionChunks
from sluice_gateway.generation import Generation, Row, Signal
from sluice_gateway.http_protocol import BodyWriter
from sluice_gateway.inter_token import Intervals

from tests.processes import gateway, worker
from tests.sse import chat, events

KINDS = ("interpreted", "_compiled")
EXAMPLES = settings(max_examples=200, deadline=None)
STOP = 1
TEXTS = [None, "</s>", "a", " \u00e9\u4e16\U0001f600", '\n"\\\x00\x7f', "", "\x85\u2028\u2029x"]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.fixture(params=KINDS)
def path_kind(request: pytest.FixtureRequest) -> ModuleType:
    return kind_of(request.param)


def kind_of(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"sluice_gateway.fast_path.{name}")
    except ImportError:
        if can_compile():
            raise
        pytest.skip("no C compiler or no headers of Python on this machine")


def can_compile() -> bool:
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return any(map(shutil.which, ("cc", "gcc", "clang"))) and headers.is_file()


class Flow:
    write_paused = False


class Cycle:
    def __init__(self) -> None:
        self.disconnected = False
        self.flow = Flow()


class Transport:
    def __init__(self, cycle: Cycle) -> None:
        self.pieces: list[bytes] = []
        self.closing = False
        self.error: BaseException | None = None
        self.room = 10**6
        self.on_write: Callable[[], None] = lambda: None
        self._cycle = cycle

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.on_write()
        if self.error is not None:
            raise self.error
        self.pieces.append(data)
        self._cycle.flow.write_paused = len(self.pieces) >= self.room


@dataclass
class Client:
    """A row with a short way, and the connection at its end."""

    kind: ModuleType
    texts: list[str | None]
    chunks: ChatChunks | CompletionChunks
    intervals: Intervals = field(default_factory=Intervals)
    troubles: list[Exception | None] = field(default_factory=list)
    cycle: Cycle = field(default_factory=Cycle)

    def __post_init__(self) -> None:
        self.transport = Transport(self.cycle)
        self.row = Generation([1], pb.SamplingParams(), [1], Signal()).rows[0]
        self.path: Any = self.kind.FastPath(
            self.texts,
            frozenset({STOP}),
            self.chunks.around_text(0),
            BodyWriter(cast("Any", self.cycle), cast("Any", self.transport)),
            self.intervals,
            self.troubles.append,
        )
        self.row.fast_path = self.path
        self.path.open(1.0)

    def step(self, token_id: int, now: float = 1.5) -> list[Row]:
        found: list[Row] = self.kind.deliver({7: self.row}, [7], [token_id], now)
        return found


def client(kind: ModuleType, texts: list[str | None] | None = None) -> Client:
    return Client(kind, TEXTS if texts is None else texts, ChatChunks("id", 1, "m", "fp"))


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_it_is_compiled_where_it_can_be() -> None:
    fast_path = importlib.import_module("sluice_gateway.fast_path")
    assert (fast_path.why_interpreted == "") == can_compile()


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(ANY_TEXT, st.booleans(), st.booleans())
def test_a_chunk_is_the_one_of_the_long_way(kind: str, text: str, chat: bool, usage: bool) -> None:
    chunks = (ChatChunks if chat else CompletionChunks)("id", 1, 'a "m"', include_usage=usage)
    at = Client(kind_of(kind), [text], chunks)
    assert at.step(0) == []
    assert at.transport.pieces == [framed(chunks.text(0, text))]


def test_a_long_text_is_whole(path_kind: ModuleType) -> None:
    text = '"\x01\u2028' * 5000
    at = client(path_kind, [text])
    assert at.step(0) == []
    assert at.transport.pieces == [framed(at.chunks.text(0, text))]


@pytest.mark.parametrize("token_id", [0, STOP, 5, len(TEXTS), 2**31 - 1])
def test_what_is_no_plain_text_goes_the_long_way(path_kind: ModuleType, token_id: int) -> None:
    at = client(path_kind)
    assert at.step(token_id) == [at.row]
    assert (at.row.ids, at.transport.pieces, at.path.tokens) == ([token_id], [], 0)


def test_a_closed_way_takes_nothing(path_kind: ModuleType) -> None:
    at = client(path_kind)
    at.step(2)
    assert at.path.tokens == 1
    assert at.path.close() == (1, 1.5)
    assert at.step(2) == [at.row]
    assert at.path.close() == (0, 1.5)
    at.path.open(2.0)
    assert at.step(2, 2.5) == []
    assert (at.path.close(), at.path.sent, at.row.ids) == ((1, 2.5), 2, [2, 2, 2])


def test_a_row_that_has_ended_and_one_without_a_way_go_the_long_way(path_kind: ModuleType) -> None:
    at = client(path_kind)
    at.row.finish = pb.RowFinish(reason=pb.FINISH_REASON_LENGTH)
    assert at.step(2) == [at.row]
    at.row.finish, at.row.fast_path = None, None
    assert at.step(2) == [at.row]


def test_rows_that_are_not_there_are_passed_over(path_kind: ModuleType) -> None:
    assert path_kind.deliver({}, [1, 2], [2, 2], 1.0) == []


def test_a_frame_with_more_rows_than_tokens_is_none(path_kind: ModuleType) -> None:
    at = client(path_kind)
    with pytest.raises(ValueError, match=r"row_ids|zip"):
        path_kind.deliver({1: at.row}, [1, 2], [2], 1.5)
    assert (at.row.ids, at.path.tokens, at.transport.pieces) == ([], 0, [])


def test_no_token_overtakes_one_of_its_row(path_kind: ModuleType) -> None:
    """A row twice in a step is not in the contract; a worker may do it all the same."""
    at = client(path_kind)
    assert path_kind.deliver({1: at.row}, [1, 1, 1], [2, 0, 2], 1.5) == [at.row, at.row]
    assert (at.row.ids, len(at.transport.pieces)) == ([2, 0, 2], 1)
    assert at.path.close() == (1, 1.5)


def test_a_client_that_does_not_keep_up_closes_its_way(path_kind: ModuleType) -> None:
    at = client(path_kind)
    at.transport.room = 1
    assert at.step(2) == []
    assert (at.troubles, len(at.transport.pieces)) == ([None], 1)
    assert at.step(2) == [at.row]
    assert at.path.close() == (1, 1.5)


def test_a_write_that_fails_is_the_streams_own_trouble(path_kind: ModuleType) -> None:
    at, other = client(path_kind), client(path_kind)
    error = at.transport.error = RuntimeError("the handle is closed")
    assert path_kind.deliver({1: at.row, 2: other.row}, [1, 2], [2, 2], 1.5) == []
    assert at.troubles == [error]
    assert len(other.transport.pieces) == 1
    assert at.step(2) == [at.row]


def test_an_interrupt_is_not_swallowed(path_kind: ModuleType) -> None:
    at = client(path_kind)
    at.transport.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        at.step(2)
    assert at.troubles == []


@pytest.mark.parametrize("gone", ["closing", "disconnected"])
def test_what_is_written_to_nobody_is_gone(path_kind: ModuleType, gone: str) -> None:
    at = client(path_kind)
    at.transport.closing, at.cycle.disconnected = gone == "closing", gone == "disconnected"
    assert at.step(2) == []
    assert (at.transport.pieces, at.troubles, at.path.tokens) == ([], [], 1)


def test_all_is_made_before_anything_is_sent(path_kind: ModuleType) -> None:
    first, second = client(path_kind), client(path_kind)
    made: list[int] = []
    first.transport.on_write = lambda: made.append(second.path.tokens)
    path_kind.deliver({1: first.row, 2: second.row}, [1, 2], [2, 2], 1.5)
    assert made == [1]


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.25, 3.0])), max_size=30))
def test_every_interval_is_counted_in_its_bucket(kind: str, steps: list[tuple[int, float]]) -> None:
    """Rows join at different times; rows of one step are counted together or apart alike."""
    module, counted, expected = kind_of(kind), Intervals(), Intervals()
    others, now = [Client(module, TEXTS, client(module).chunks, counted) for _ in range(4)], 1.0
    last = [1.0] * 4
    for rows, pause in steps:
        now += pause
        module.deliver(
            {at: each.row for at, each in enumerate(others)}, range(rows), [2] * rows, now
        )
        for at in range(rows):
            expected.add(now - last[at], 1)
            last[at] = now
    assert counted._counts == expected._counts
    assert counted._sum == pytest.approx(expected._sum)


def test_nothing_is_kept_of_a_step(path_kind: ModuleType) -> None:
    at, broken = client(path_kind), client(path_kind)
    rows = {1: at.row, 2: broken.row}
    kept = [at.row, at.path, at.row.ids, at.intervals, broken.row, broken.path, TEXTS]

    def steps() -> None:
        for _ in range(1000):
            broken.path.open(1.0)
            broken.transport.error = ValueError("no")
            path_kind.deliver(rows, [1, 2, 3], [2, 3, 2], 1.5)
            at.transport.pieces.clear()
            at.row.ids.clear()
            broken.row.ids.clear()
            broken.troubles.clear()

    gc.disable()  # what only the collector finds is kept, too
    try:
        steps()
        before, objects = [sys.getrefcount(each) for each in kept], len(gc.get_objects())
        steps()
    finally:
        gc.enable()
    assert [sys.getrefcount(each) for each in kept] == before
    assert len(gc.get_objects()) <= objects + 10


def test_a_way_that_leads_back_to_itself_is_collected(path_kind: ModuleType) -> None:
    class Loop(list[Any]):
        """Can be looked at weakly."""

    loop = Loop()
    at = client(path_kind)
    path = path_kind.FastPath(
        TEXTS,
        frozenset(),
        (b"", b""),
        BodyWriter(cast("Any", at.cycle), cast("Any", at.transport)),
        Intervals(),
        loop.append,
    )
    loop.append(path)
    seen = weakref.ref(loop)
    del loop, path
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(
    "wrong", [{"around": ("a", "b")}, {"stop_ids": {1}}, {"writer": None}, {"texts": 5}]
)
def test_what_it_is_made_of_is_checked(wrong: dict[str, Any]) -> None:
    at = client(kind_of("_compiled"))
    parts = {
        "texts": TEXTS,
        "stop_ids": frozenset({1}),
        "around": (b"", b""),
        "writer": BodyWriter(cast("Any", at.cycle), cast("Any", at.transport)),
        "intervals": Intervals(),
        "on_trouble": print,
    }
    half_made = kind_of("_compiled").FastPath.__new__(kind_of("_compiled").FastPath)
    with pytest.raises((TypeError, AttributeError)):
        half_made.__init__(**{**parts, **wrong})
    half_made.open(1.0)
    at.row.fast_path = half_made
    assert at.step(2) == [at.row]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_same_by_either_way(
    kind: str, fake_model_dir: Path, tmp_path: Path
) -> None:
    """A stop string that never comes makes all tokens go the long way."""
    kind_of(kind)
    hidden = 'import sys\nsys.modules["sluice_gateway.fast_path._compiled"] = None\n'
    (tmp_path / "sitecustomize.py").write_text(hidden if kind == "interpreted" else "")
    text = 'Plain, \u00e9\u4e16\U0001f600 "quoted"\u2028\n'
    told = f"fake:{json.dumps({'say': text, 'tokens': 40})}"
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="2") as fake,
        gateway(fake.address, PYTHONPATH=str(tmp_path)) as front,
    ):
        assert ("interpreted way" in front.process.text()) == (kind == "interpreted")
        ways = [chat(told), chat(told, stop=["\x00"]), chat(told, max_tokens=40)]
        seen = [deltas(front.url, body) for body in ways]
        counted = httpx.get(front.url + "/metrics").text
    assert seen[0] == seen[1] == seen[2]
    assert "\U0001f600" in "".join(seen[0])
    assert len(seen[0]) > 20
    assert (
        metric(counted, "sluice_gateway_generation_tokens_total") == 41 + 41 + 40
    )  # an end token counts
    assert metric(counted, "sluice_inter_token_latency_seconds_count") == 40 + 40 + 39


def deltas(url: str, body: dict[str, Any]) -> list[str]:
    body = {**body, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as response:
        found = [event for event in events(response.iter_lines()) if not isinstance(event, str)]
    return [each["choices"][0]["delta"].get("content", "") for each in found if each["choices"]]


def metric(exposition: str, name: str) -> float:
    lines = [line for line in exposition.splitlines() if line.startswith(name + "{")]
    return sum(float(line.split()[1]) for line in lines)


def build(folder: Path, compiler: str) -> list[str]:
    """Build in place with CC; the libraries that are there then."""
    here = Path(sluice_gateway.__file__).parents[1]
    shutil.copy(here / "setup.py", folder)
    source = "sluice_gateway/fast_path/_compiled.c"
    (folder / source).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(here / source, folder / source)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, env={**os.environ, "CC": compiler}, check=True)
    return [path.name for path in (folder / source).parent.glob("*.so")]


def test_no_old_library_stays_when_there_is_no_new_one(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    if not can_compile():
        pytest.skip("no C compiler or no headers of Python on this machine")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    assert len(build(tmp_path, f"{compiler} -DNDEBUG")) == 1
    assert build(tmp_path, "false") == []
