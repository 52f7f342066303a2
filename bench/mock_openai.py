"""``python -m bench.mock_openai``: an OpenAI server without a model, for proxies to stand before.

Every stream gets one chunk at every tick of one clock, as an engine's steps would give it. The
clock stands still without streams and starts with the first, as the fake engine's does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from typing import cast

import uvloop

MODEL = "mock"
_ANSWERS = {
    "/health": {"status": "ok"},
    "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "-"}]},
    "/get_model_info": {"model_path": MODEL, "tokenizer_path": MODEL, "is_generation": True},
    "/model_info": {"model_path": MODEL, "tokenizer_path": MODEL, "is_generation": True},
    "/get_server_info": {"model_path": MODEL, "served_model_name": MODEL},
    "/server_info": {"model_path": MODEL, "served_model_name": MODEL},
}
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(**fields: object) -> bytes:
    """A chat completion chunk as one server-sent event in one HTTP chunk."""
    body = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        **fields,
    }
    return _framed(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


ROLE = _delta({"role": "assistant", "content": ""})
TOKEN = _delta({"content": " token"})
FINISH = _delta({}, "length")
DONE = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Clock:
    """Ticks every ``step`` seconds while there are streams; steps that come late are not lost."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._streams: dict[Connection, int] = {}  # with the tokens sent so far
        self._due = 0.0
        self._ticking = False

    def add(self, stream: Connection) -> None:
        """Give ``stream`` a token at every tick from the next one on."""
        if not self._ticking:
            self._ticking = True
            self._due = time.monotonic() + self._step
            asyncio.get_running_loop().call_later(self._step, self._tick)
        self._streams[stream] = 0

    def remove(self, stream: Connection) -> None:
        """Nobody listens any more."""
        self._streams.pop(stream, None)

    def _tick(self) -> None:
        for stream, sent in list(self._streams.items()):
            if stream.send_token(sent):
                self._streams[stream] = sent + 1
            else:
                del self._streams[stream]
        self._ticking = bool(self._streams)
        if self._ticking:
            now = time.monotonic()
            self._due = max(self._due + self._step, now)
            asyncio.get_running_loop().call_later(self._due - now, self._tick)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; one request at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buffer = b""
        self._tokens = 0
        self._usage = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the stream."""
        self._clock.remove(self)

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is whole."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *headers = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (h.partition(":") for h in headers)}
        length = int(fields.get("content-length", "0"))
        if len(rest) >= length:
            self._buffer = rest[length:]
            method, target, _ = first.split(" ")
            self._answer(method, target.partition("?")[0], rest[:length])

    def _answer(self, method: str, path: str, body: bytes) -> None:
        if method == "POST" and path == "/v1/chat/completions":
            request = json.loads(body)
            self._tokens = request.get("max_tokens") or request.get("max_completion_tokens") or 16
            self._usage = bool((request.get("stream_options") or {}).get("include_usage"))
            self._clock.add(self)
            return
        answer = _ANSWERS.get(path)
        status = "200 OK" if answer else "404 Not Found"
        payload = json.dumps(answer or {"error": {"message": f"nothing at {path}"}}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        self._transport.write(f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload)

    def send_token(self, sent: int) -> bool:
        """Send the next token; False: it was the last one."""
        is_last = sent + 1 >= self._tokens
        if not is_last and sent:
            self._transport.write(TOKEN)
            return True
        self._transport.write(
            (b"" if sent else _HEAD + ROLE) + TOKEN + (self._last_bytes() if is_last else b"")
        )
        return not is_last

    def _last_bytes(self) -> bytes:
        if not self._usage:
            return FINISH + DONE
        usage = {"prompt_tokens": 64, "completion_tokens": self._tokens}
        usage["total_tokens"] = 64 + self._tokens
        return FINISH + chunk(choices=[], usage=usage) + DONE


async def serve(port: int, step: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    clock = Clock(step)
    server = await loop.create_server(lambda: Connection(clock), "127.0.0.1", port, backlog=2048)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--step-ms", type=float, default=20.0)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.port, given.step_ms / 1000))


if __name__ == "__main__":
    main()
