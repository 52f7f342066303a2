"""A small model hub, enough for the real huggingface_hub client (``HF_ENDPOINT``)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves repositories from local directories. ``requests`` lists what was asked."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.url = ""

    def info(self, repository: str) -> bytes | None:
        if repository not in self.repositories:
            return None
        names = sorted(path.name for path in self.repositories[repository].iterdir())
        siblings = [{"rfilename": name} for name in names]
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()

    def tree(self, repository: str) -> bytes | None:
        if repository not in self.repositories:
            return None
        entries = [
            {
                "type": "file",
                "path": path.name,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in sorted(self.repositories[repository].iterdir())
        ]
        return json.dumps(entries).encode()

    def file(self, repository: str, name: str) -> bytes | None:
        path = self.repositories.get(repository, Path("/nowhere")) / name
        return path.read_bytes() if path.is_file() else None


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"] and parts[4:5] == ["tree"]:
                self._send(hub.tree("/".join(parts[2:4])), with_body=with_body)
            elif parts[:2] == ["api", "models"]:
                self._send(hub.info("/".join(parts[2:4])), with_body=with_body)
            elif len(parts) >= 5 and parts[2] == "resolve":
                name = "/".join(parts[4:])
                self._send(hub.file("/".join(parts[:2]), name), with_body=with_body)
            else:
                self._send(None, with_body=with_body)

        def _send(self, body: bytes | None, *, with_body: bool) -> None:
            self.send_response(200 if body is not None else 404)
            if body is None:
                body = b'{"error": "Repository not found"}'
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
