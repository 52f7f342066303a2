"""A small model hub for the real huggingface_hub client (``HF_ENDPOINT``), with faults to order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 100_000  # what is larger has a SHA-256, as files in git's large file storage do
PIECE = 16_384

_REFUSALS = {
    401: ("RepoNotFound", "Invalid username or password."),
    403: ("", "no permission"),
    404: ("RepoNotFound", "Repository not found"),
}


@dataclass
class Faults:
    """What goes wrong. Change it while the hub runs."""

    #: Every request is answered with this status; ``status_times`` says how often.
    status: int = 0
    status_times: int = 10**9
    #: Only requests with this in their path.
    status_for: str = ""
    retry_after: str = ""
    rate_limit: str = ""
    #: A page that is sent in place of every answer, as a proxy's login page is.
    page: bytes = b""
    #: Requests get no answer at all.
    silent: bool = False
    #: Files are at another host, as large ones are on the real hub.
    cdn: bool = False
    #: Files can only be had with this token, and the repository is gated.
    token: str = ""
    #: All responses together send so many bytes a second.
    bytes_per_second: float = 0
    #: Each response of a file is cut, or stands still, after so many bytes of its body.
    cut_after: int = 0
    stall_after: int = 0
    ignore_range: bool = False
    #: What the listing says of files by name: sizes and contents that are not true.
    lie_size: dict[str, int] = field(default_factory=dict)
    lie_digest: dict[str, str] = field(default_factory=dict)
    lie_commit: str = ""
    #: Siblings that the listing has beyond the folder's files.
    lie_siblings: list[dict[str, object]] = field(default_factory=list)
    #: How many more times a file is sent with a wrong byte.
    flips: Counter[str] = field(default_factory=Counter)


class Hub:
    """Serves repositories from local directories. Counts what was asked and sent."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.faults = Faults()
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()  # bytes by file name
        self.cdn_tokens: list[str] = []  # what the other host was told
        self.url = ""
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._pace = 0.0

    def info(self, repository: str) -> bytes | None:
        folder = self.repositories.get(repository)
        if folder is None:
            return None
        siblings = [self._sibling(path) for path in sorted(folder.iterdir())]
        siblings += self.faults.lie_siblings
        gated = "manual" if self.faults.token else False
        commit = self.faults.lie_commit or COMMIT
        body = {"id": repository, "sha": commit, "siblings": siblings, "gated": gated}
        return json.dumps(body).encode()

    def _sibling(self, path: Path) -> dict[str, object]:
        data = path.read_bytes()
        size = self.faults.lie_size.get(path.name, len(data))
        blob_id = _blob_id(data)
        about: dict[str, object] = {"rfilename": path.name, "size": size}
        about["blobId"] = self.faults.lie_digest.get(path.name, blob_id)
        if len(data) > LARGE:
            digest = hashlib.sha256(data).hexdigest()
            digest = self.faults.lie_digest.get(path.name, digest)
            about["lfs"] = {"size": size, "sha256": digest, "pointerSize": 130}
        return about

    def tree(self, repository: str) -> bytes | None:
        """The listing that the hub's own tools ask for."""
        folder = self.repositories.get(repository)
        if folder is None:
            return None
        entries = []
        for about in map(self._sibling, sorted(folder.iterdir())):
            entry = {"type": "file", "path": about["rfilename"], "size": about["size"]}
            entry["oid"] = about["blobId"]
            if isinstance(lfs := about.get("lfs"), dict):
                entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 130}
            entries.append(entry)
        return json.dumps(entries).encode()

    def file(self, repository: str, name: str) -> bytes | None:
        path = self.repositories.get(repository, Path("/nowhere")) / name
        if not path.is_file():
            return None
        data = bytearray(path.read_bytes())
        with self._lock:
            if self.faults.flips[name] > 0:
                self.faults.flips[name] -= 1
                data[len(data) // 2] ^= 1
        return bytes(data)

    def sizes(self, repository: str) -> dict[str, int]:
        """The files of a repository with their sizes."""
        return {path.name: path.stat().st_size for path in self.repositories[repository].iterdir()}

    def downloads(self, name: str) -> list[str]:
        """The requests for a file."""
        return [line for line in self.requests if line.endswith(f"/{name}")]

    def refusal(self, path: str) -> int:
        """The status to refuse a request with; 0 for none."""
        with self._lock:
            meant = self.faults.status and self.faults.status_for in path
            if meant and self.faults.status_times > 0:
                self.faults.status_times -= 1
                return self.faults.status
        return 0

    def wait_turn(self, count: int) -> None:
        """Sleep as the rate that all responses share asks for."""
        if not self.faults.bytes_per_second:
            return
        with self._lock:
            now = time.monotonic()
            self._pace = max(now, self._pace) + count / self.faults.bytes_per_second
            seconds = self._pace - now
        time.sleep(seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        hub, path = self.hub, urlparse(self.path).path
        hub.requests.append(f"{self.command} {unquote(path)}")
        if hub.faults.silent:
            hub.ended.wait(60)
            self.close_connection = True
            return
        if status := hub.refusal(path):
            self._refuse(status)
            return
        if hub.faults.page:
            self._send("", hub.faults.page, with_body=with_body)
            return
        parts = unquote(path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            if parts[4:5] == ["revision"] and parts[5] not in ("main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            elif parts[4:5] == ["tree"] and (tree := hub.tree("/".join(parts[2:4]))):
                self._send("", tree, with_body=with_body)
            elif (info := hub.info("/".join(parts[2:4]))) is None:
                self._refuse(404)
            else:
                self._send("", info, with_body=with_body)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]), with_body=with_body)
        else:
            self._refuse(404)

    def _file(self, repository: str, name: str, *, with_body: bool) -> None:
        host, token = self.headers.get("Host", ""), self.hub.faults.token
        if self.hub.faults.cdn and host.startswith("127."):
            self.send_response(302)
            self.send_header(
                "Location", f"http://{host.replace('127.0.0.1', 'localhost')}{self.path}"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.hub.faults.cdn:
            self.hub.cdn_tokens.append(self.headers.get("Authorization", ""))
            token = ""
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            self._refuse(401, "GatedRepo")
        elif (data := self.hub.file(repository, name)) is None:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(name, data, with_body=with_body)

    def _refuse(self, status: int, code: str = "") -> None:
        default, message = _REFUSALS.get(status, ("", "out of order"))
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        if code or default:
            self.send_header("X-Error-Code", code or default)
        if self.hub.faults.rate_limit:
            self.send_header("RateLimit", self.hub.faults.rate_limit)
        if self.hub.faults.retry_after:
            self.send_header("Retry-After", self.hub.faults.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, name: str, body: bytes, *, with_body: bool) -> None:
        offset, total = 0, len(body)
        wanted = self.headers.get("Range", "")
        if name and wanted and not self.hub.faults.ignore_range:
            offset = int(wanted.removeprefix("bytes=").rstrip("-"))
            if offset >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {offset}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{_digest(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(total - offset))
        self.end_headers()
        if with_body:
            self._send_body(name, body[offset:])

    def _send_body(self, name: str, body: bytes) -> None:
        faults, sent = self.hub.faults, 0
        for begin in range(0, len(body), PIECE):
            piece = body[begin : begin + PIECE]
            if name and 0 < faults.stall_after <= sent:
                self.hub.ended.wait(60)
            if self.hub.ended.is_set() or (name and 0 < faults.cut_after <= sent):
                self.close_connection = True
                return
            self.hub.wait_turn(len(piece))
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            sent += len(piece)
            self.hub.sent[name] += len(piece)

    def log_message(self, *args: object) -> None:
        pass


def _digest(data: bytes) -> str:
    """What the hub knows a content by."""
    return hashlib.sha256(data).hexdigest() if len(data) > LARGE else _blob_id(data)


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    hub = Hub(repositories)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """What points huggingface_hub to ``hub``, with its cache in ``home``."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "",
        "HF_TOKEN_PATH": str(home / "no-token"),
        **more,
    }
