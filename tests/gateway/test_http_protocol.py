"""What a client may do to its connection, against a gateway and against the protocol alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self, cast

import pytest
import uvicorn
import uvloop
from sluice_gateway import http_protocol
from sluice_gateway.http_protocol import BoundedHttpProtocol

from tests.conftest import TEXT
from tests.processes import Gateway, gateway, process, worker
from tests.sse import chat

ROOT = Path(__file__).parents[2]
ENDLESS = b"GET /health/live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


class Client:
    """A socket that reads answers one by one."""

    def __init__(self, port: int, seconds: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer that has a length."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def rest(self) -> bytes:
        """All until the end; TimeoutError when there is none."""
        try:
            return self._file.read()
        except ConnectionError:
            return b""


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    head = [b"POST " + path + b" HTTP/1.1", b"host: x", b"content-type: application/json"]
    return b"\r\n".join([*head, *headers, b"content-length: %d" % len(body), b"", body])


def asking(text: str = "hi", **fields: Any) -> bytes:
    return json.dumps(chat(text, **fields)).encode()


# --- Against a gateway -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[Gateway]:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="5", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address, MAX_BODY_BYTES="100KiB") as started,
    ):
        yield started


def client(front: Gateway) -> Client:
    return Client(int(front.url.rpartition(":")[2]))


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def rows_are(front: Gateway, count: int, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while front.health()["workers"][0]["rows_running"] != count:  # type: ignore[index]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_endless_trailers_are_refused_and_fill_no_memory(front: Gateway) -> None:
    before = rss_mib(front.process.pid)
    sent = 0
    with client(front) as connection:
        connection.send(ENDLESS + b"0\r\n")
        trailers = b"x-trailer: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1000
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < 20_000_000:
                connection.send(trailers)
                sent += len(trailers)
            assert connection.rest().startswith((b"HTTP/1.1 200", b"HTTP/1.1 431"))
    assert rss_mib(front.process.pid) - before < 30


def test_h2c_is_answered_as_http_1_1(front: Gateway) -> None:
    wish = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEA")
    request = post(asking(max_tokens=2), *wish)
    with client(front) as connection:
        connection.send(request)
        status, _, body = connection.answer()
        assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 2)
        for piece in (request[:90], request[90:-20], request[-20:]):
            connection.send(piece)
            time.sleep(0.05)
        assert connection.answer()[0] == 200
        connection.send(LIVE)
        assert connection.answer()[0] == 200


def test_a_websocket_gets_a_plain_answer(front: Gateway) -> None:
    wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with client(front) as connection:
        for path, expected in ((b"/v1/chat/completions", 405), (b"/ws", 404)):
            connection.send(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n" + wish)
            assert connection.answer()[0] == expected
    assert "Traceback" not in front.process.text()


def test_connect_is_refused(front: Gateway) -> None:
    with client(front) as connection:
        connection.send(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\nhello")
        assert connection.answer()[0] == 400
        assert connection.rest() == b""


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_pipelined_and_left_leaves_no_row(front: Gateway, streaming: bool) -> None:
    request = post(asking(max_tokens=900, stream=streaming))
    with client(front) as connection:
        connection.send(request + request)
        rows_are(front, 1)
    rows_are(front, 0)
    time.sleep(0.2)
    assert "Traceback" not in front.process.text()


def test_a_413_closes_and_the_rest_is_not_parsed(front: Gateway) -> None:
    inner = LIVE * 4000
    with client(front) as connection:
        connection.send(post(inner)[: -len(inner)])
        status, headers, _ = connection.answer()
        assert (status, headers["connection"]) == (413, "close")
        connection.send(inner)
        assert connection.rest() == b""


def test_a_413_is_read_by_a_client_that_first_sends_all(front: Gateway) -> None:
    with client(front) as connection:
        connection.send(post(b"x" * 20_000_000))
        assert connection.answer()[0] == 413
        assert connection.rest() == b""


# --- Against the protocol alone ----------------------------------------------------------------


class App:
    """Reads a POST's body, and answers when it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.seen: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        self.headers.append(list(scope["headers"]))
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while not self.may_answer.is_set():
            await asyncio.sleep(0.01)
        if scope["path"] != "/stream":
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


class Served:
    """uvicorn with the protocol, in a thread of its own."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        config = uvicorn.Config(
            app, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))

    def client(self) -> Client:
        return Client(self.port)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.6, raising=False)
    running = Served(App())
    yield running
    running.app.may_answer.set()
    running.stop()


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"host: x", *headers, b"", b""])


def test_requests_one_after_the_other_share_a_connection(served: Served) -> None:
    with served.client() as connection:
        for _ in range(3):
            connection.send(get(b"/a"))
            assert connection.answer()[::2] == (200, b"ok")
            connection.send(post(b"hello") + b"\r\n")  # as some clients end a body
            status, headers, body = connection.answer()
            assert (status, body) == (200, b"ok")
            assert "connection" not in headers
    assert served.app.bodies == [b"", b"hello"] * 3


def test_a_head_is_counted_from_its_first_byte(served: Served) -> None:
    heads = [
        get(b"/", b"x: " + b"y" * 100_000),
        get(b"/", *[b"x-%d: %b" % (number, b"y" * 100) for number in range(800)]),
        get(b"/" + b"y" * 100_000),
    ]
    for head in heads:
        with served.client() as connection:
            connection.send(head)
            assert connection.answer()[0] == 431
            assert connection.rest() == b""
    with served.client() as connection:
        connection.send(get(b"/", b"x: " + b"y" * 60_000))
        assert connection.answer()[0] == 200
    assert served.app.seen == ["/"]


def test_trailers_are_counted_with_the_head_and_are_no_headers(served: Served) -> None:
    head = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    with served.client() as connection:
        connection.send(head)
        connection.send(b"authorization: Bearer x\r\n\r\n")
        assert connection.answer()[0] == 200
        connection.send(head)
        connection.send(b"x: %b\r\n" % (b"y" * 1000) * 70)
        assert connection.answer()[0] == 431
        assert connection.rest() == b""
    assert served.app.bodies[0] == b"hello"
    assert b"authorization" not in dict(served.app.headers[0])


@pytest.mark.parametrize("piece", [b"x: y\r\n", b"x: " + b"y" * 100], ids=["many", "one"])
def test_slow_trailers_end_with_their_time(served: Served, piece: bytes) -> None:
    with served.client() as connection:
        connection.send(ENDLESS.replace(b"/health/live", b"/a") + b"0\r\n")
        assert connection.answer()[0] == 200
        assert_closes(connection, piece)


def test_an_endless_chunk_extension_is_refused(served: Served) -> None:
    with served.client() as connection:
        connection.send(ENDLESS.replace(b"GET", b"POST") + b"1;")
        for _ in range(20):
            time.sleep(0.005)
            with contextlib.suppress(ConnectionError):
                connection.send(b"x" * 10_000)
        assert connection.answer()[0] == 431


def test_many_small_chunks_are_a_body_like_any_other(served: Served) -> None:
    with served.client() as connection:
        head = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.send(head + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        assert connection.answer()[0] == 200
    assert served.app.bodies == [b"x" * 50_000]


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_that_goes_on_after_the_answer_ends_with_its_time(
    served: Served, method: bytes
) -> None:
    with served.client() as connection:
        connection.send(method + b" /a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        assert connection.answer()[0] == 200
        assert_closes(connection, b"z" * 1000)


def assert_closes(connection: Client, piece: bytes, seconds: float = 3.0) -> None:
    """The server closes although, every now and then, a piece comes."""
    connection.socket.settimeout(0.05)
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline:
            connection.send(piece)
            try:
                assert connection.socket.recv(100) == b""
            except TimeoutError:
                continue
            return
        raise AssertionError("the connection is still open")


def test_a_body_that_ends_soon_after_the_answer_keeps_the_connection(served: Served) -> None:
    with served.client() as connection:
        connection.send(b"PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        assert connection.answer()[0] == 200
        connection.send(b"hello")
        time.sleep(0.8)  # longer than it would have been waited for
        connection.send(get(b"/b"))
        assert connection.answer()[0] == 200


def test_line_breaks_do_not_keep_an_idle_connection(served: Served) -> None:
    with served.client() as connection:
        connection.send(get(b"/a"))
        assert connection.answer()[0] == 200
        assert_closes(connection, b"\r\n")


@pytest.mark.parametrize("together", [False, True])
def test_a_pipelined_request_is_not_served(served: Served, together: bool) -> None:
    served.app.may_answer.clear()
    with served.client() as connection:
        if together:
            connection.send(get(b"/a") + get(b"/b"))
        else:
            connection.send(get(b"/a"))
            time.sleep(0.1)
            connection.send(get(b"/b"))
        time.sleep(0.1)
        served.app.may_answer.set()
        status, headers, body = connection.answer()
        assert (status, headers["connection"], body) == (200, "close", b"ok")
        assert connection.rest() == b""
    assert served.app.seen == ["/a"]


def test_half_a_head_does_not_break_into_a_running_stream(served: Served) -> None:
    served.app.may_answer.clear()
    with served.client() as connection:
        connection.send(get(b"/stream") + get(b"/b")[:20])
        time.sleep(1.0)  # longer than a head may take
        served.app.may_answer.set()
        answer = connection.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\n5\r\nbegun\r\n2\r\nok\r\n0\r\n\r\n")


def test_a_broken_chunk_does_not_break_into_a_running_stream(served: Served) -> None:
    served.app.may_answer.clear()
    with served.client() as connection:
        connection.send(b"PUT /stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        time.sleep(0.1)
        connection.send(b"nonsense\r\n")
        answer = connection.rest()
    assert answer.endswith(b"\r\n\r\n5\r\nbegun\r\n")


def test_too_much_after_a_request_ends_the_connection(served: Served) -> None:
    served.app.may_answer.clear()
    with served.client() as connection:
        connection.send(get(b"/a"))
        with pytest.raises(ConnectionError):
            send_slowly(connection, b"z" * 20_000_000)
    assert served.app.seen == ["/a"]


def send_slowly(connection: Client, data: bytes) -> None:
    for begin in range(0, len(data), 10_000):
        connection.send(data[begin : begin + 10_000])
        time.sleep(0.0005)


def test_nothing_is_written_to_a_connection_that_closes() -> None:
    class Transport:
        written = b""

        def is_closing(self) -> bool:
            return True

        def write(self, data: bytes) -> None:
            self.written += data

    class Flow:
        write_paused = False

    class Cycle:
        disconnected = False
        flow = Flow()

    transport = Transport()
    cycle: Any = Cycle()
    write = http_protocol.BodyWriter(cycle, cast("asyncio.Transport", transport))
    assert write(b"x")
    assert transport.written == b""


# --- scripts/run.py ----------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def refusing_proxy() -> Iterator[str]:
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_make_run_ignores_proxies_and_a_second_ctrl_c_stops_at_once(fake_model_dir: Path) -> None:
    port = free_port()
    with refusing_proxy() as proxy:
        environment = {
            "MODEL_ID": str(fake_model_dir),
            "ENGINE": "fake",
            "FAKE_STEP_MS": "50",
            "GATEWAY_ADDRESS": f"127.0.0.1:{port}",
            "WORKER_ADDRESS": f"127.0.0.1:{free_port()}",
            "METRICS_ADDRESS": "127.0.0.1:0",
            "http_proxy": proxy,
            "no_proxy": "",
        }
        with process([sys.executable, str(ROOT / "scripts/run.py")], environment) as script:
            script.wait_for("is ready at", 20)
            children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
            with Client(port) as connection:
                connection.send(post(asking(max_tokens=900, stream=True)))
                assert connection.socket.recv(12) == b"HTTP/1.1 200"
                script.signal(signal.SIGINT)
                script.wait_for(r"draining: 1 rows")
                began = time.monotonic()
                script.signal(signal.SIGINT)
                script.wait(5)
                assert time.monotonic() - began < 3
            assert len(children) == 2
            assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not re.search("Traceback", script.text())
