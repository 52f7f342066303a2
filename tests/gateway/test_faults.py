"""What happens to streams when workers, clients or the gateway itself go away."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat, chat_text, error_of, finish_reasons, stream

CHAT = "/v1/chat/completions"


def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def rows_running(of: Gateway) -> int:
    workers = of.health()["workers"]
    return sum(each["rows_running"] or 0 for each in workers)  # type: ignore[attr-defined]


def gauge(of: Worker, name: str) -> float:
    lines = [line for line in of.metrics().splitlines() if line.startswith(name + "{")]
    return float(lines[0].rsplit(" ", 1)[1])


@pytest.fixture
def fake_worker(fake_model_dir: Path) -> Iterator[Worker]:
    with worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="10") as started:
        yield started


def test_a_killed_worker_ends_its_streams_with_an_error_and_done(fake_worker: Worker) -> None:
    with gateway(fake_worker.address, FAILOVER_SECONDS="0.5") as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=2000))
        got = [next(chunks) for _ in range(5)]
        fake_worker.process.signal(signal.SIGKILL)
        got += chunks
        error = error_of(got)
        assert error is not None
        assert error["code"] == "worker_lost"
        assert set(error) == {"message", "type", "param", "code"}
        assert fake_worker.address not in str(error)
        until(lambda: httpx.get(front.url + "/health").status_code == 503)
        refused = httpx.post(front.url + CHAT, json=chat())
        assert refused.status_code == 503
        assert refused.headers["retry-after"]


def test_the_gateway_connects_again_by_itself(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, ENGINE="fake") as first:
        port = int(first.address.rpartition(":")[2])
        with gateway(first.address) as front:
            first.process.signal(signal.SIGKILL)
            first.process.wait()
            until(lambda: httpx.get(front.url + "/health").status_code == 503)
            with worker(fake_model_dir, port=port, ENGINE="fake"):
                front.wait_ready(seconds=15)
                answer = httpx.post(front.url + CHAT, json=chat(max_tokens=3))
                assert answer.status_code == 200


def test_a_stopped_worker_is_noticed_and_comes_back(fake_worker: Worker) -> None:
    with gateway(fake_worker.address, WORKER_SILENCE_SECONDS="3.5", FAILOVER_SECONDS="0") as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=3000))
        got = [next(chunks) for _ in range(3)]
        fake_worker.process.signal(signal.SIGSTOP)
        until(lambda: front.health()["workers"][0]["state"] == "silent")  # type: ignore[index]
        assert httpx.post(front.url + CHAT, json=chat()).status_code == 503
        got += chunks
        error = error_of(got)
        assert error is not None
        assert error["code"] == "worker_lost"
        fake_worker.process.signal(signal.SIGCONT)
        front.wait_ready(seconds=15)
        # The rows of the lost session are gone from the worker too.
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 0)
        again = list(stream(front.url + CHAT, chat(max_tokens=5)))
        assert finish_reasons(again) == {0: "length"}


def test_a_client_that_leaves_a_stream_ends_its_row(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=5000))
        next(chunks)
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 1)
        chunks.close()  # type: ignore[attr-defined]
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 0, 2)


@pytest.mark.parametrize("delay_ms", [0, 5000])
def test_a_client_that_stops_waiting_for_a_whole_answer_ends_its_row(
    fake_worker: Worker, delay_ms: int
) -> None:
    body = chat(f'fake:{{"delay_ms": {delay_ms}, "tokens": 5000}}')
    with gateway(fake_worker.address) as front:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(front.url + CHAT, json=body, timeout=0.7)
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 0, 2)
        until(lambda: "sluice_client_disconnects_total 1.0" in metrics(front), 2)


def metrics(front: Gateway) -> str:
    return httpx.get(front.url + "/metrics").text


def test_a_row_that_fails_does_not_harm_its_neighbours(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        bystander = stream(front.url + CHAT, chat(max_tokens=100))
        first = next(bystander)
        poison = list(stream(front.url + CHAT, chat('fake:{"tokens": 3, "end": "error"}')))
        error = error_of(poison)
        assert error is not None
        assert error["type"] == "server_error"
        rest = [first, *bystander]
        assert error_of(rest) is None
        assert finish_reasons(rest) == {0: "length"}


def test_a_client_that_does_not_read_slows_nobody_and_loses_nothing(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        host, port = front.url.removeprefix("http://").split(":")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        payload = b'{"messages":[{"role":"user","content":"x"}],"max_tokens":600,"stream":true}'
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(payload), payload)
        )
        others = list(stream(front.url + CHAT, chat(max_tokens=50)))
        assert finish_reasons(others) == {0: "length"}
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 0, 30)
        received = b""
        while piece := slow.recv(65536):
            received += piece
        slow.close()
        assert b"data: [DONE]" in received
        assert b'"finish_reason":"length"' in received


def test_sigterm_lets_streams_finish_and_refuses_new_work(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=150))
        got = [next(chunks)]
        front.process.signal(signal.SIGTERM)
        until(lambda: httpx.get(front.url + "/health/ready").status_code == 503, 3)
        assert httpx.get(front.url + "/health/live").status_code == 200
        refused = httpx.post(front.url + CHAT, json=chat())
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        got += chunks
        assert finish_reasons(got) == {0: "length"}
        assert front.process.wait() == 0


def test_a_worker_told_to_stop_finishes_its_rows(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=150))
        got = [next(chunks)]
        fake_worker.process.signal(signal.SIGTERM)
        until(lambda: httpx.post(front.url + CHAT, json=chat(max_tokens=1)).status_code == 503, 3)
        got += chunks
        assert finish_reasons(got) == {0: "length"}
        assert fake_worker.process.wait() == 0


def test_an_engine_that_dies_ends_its_process_and_the_streams(fake_model_dir: Path) -> None:
    with (
        worker(
            fake_model_dir, ENGINE="fake", FAKE_STEP_MS="10", FAKE_FAIL_AFTER_STEPS="20"
        ) as failing,
        gateway(failing.address) as front,
    ):
        got = list(stream(front.url + CHAT, chat(max_tokens=2000)))
        assert error_of(got) is not None
        assert failing.process.wait() == 1


def test_many_streams_come_and_go_and_leave_nothing(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:

        def one(number: int) -> None:
            chunks = stream(front.url + CHAT, chat(max_tokens=20 + number))
            if number % 2:
                next(chunks)
                chunks.close()  # type: ignore[attr-defined]
            else:
                assert finish_reasons(list(chunks)) == {0: "length"}

        threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: gauge(fake_worker, "sluice_num_requests_running") == 0)
        assert "sluice_streams_active 0.0" in metrics(front)
        until(lambda: rows_running(front) == 0)


def test_two_workers_share_the_load(fake_model_dir: Path) -> None:
    options = {"ENGINE": "fake", "FAKE_STEP_MS": "20"}
    with (
        worker(fake_model_dir, **options) as one,
        worker(fake_model_dir, **options) as two,
        gateway(one.address, two.address) as front,
    ):
        until(lambda: front.health()["models"][0]["workers_ready"] == 2)  # type: ignore[index]
        running = [stream(front.url + CHAT, chat(max_tokens=300)) for _ in range(6)]
        for chunks in running:
            next(chunks)
        until(lambda: gauge(one, "sluice_num_requests_running") == 3)
        assert gauge(two, "sluice_num_requests_running") == 3
        two.process.signal(signal.SIGKILL)
        ends = [error_of(list(chunks)) for chunks in running]
        assert ends == [None] * 6  # those of the second have gone on with the first
        text = chat_text(list(stream(front.url + CHAT, chat(max_tokens=2))))
        assert text
