"""The status page: one document, put together from the parts beside this file.

It holds no data. What it shows it asks of ``/health`` and ``/metrics``, and its chat is a client
of ``/v1/chat/completions`` like any other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

#: In this order they are one script: what runs at once needs what stands before it.
SCRIPTS = (
    "element.js",
    "words.js",
    "states.js",
    "bar.js",
    "models.js",
    "workers.js",
    "exposition.js",
    "figures.js",
    "event_stream.js",
    "message.js",
    "chat.js",
    "watch.js",
)
STYLES = ("base.css", "lists.css", "chat.css")

_STYLE_MARK = "/* style */"
_SCRIPT_MARK = "/* script */"


@dataclass(frozen=True, slots=True)
class StatusPage:
    """The document, with the headers that belong to it."""

    body: bytes
    etag: str
    #: Content-Security-Policy: these very scripts and styles, and requests to this gateway alone.
    policy: str

    @property
    def headers(self) -> dict[str, str]:
        """Of every answer that has the document or says that it has not changed."""
        return {
            "etag": self.etag,
            "cache-control": "no-cache",
            "content-security-policy": self.policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }

    @classmethod
    def build(cls) -> StatusPage:
        """From the package's files."""
        style, script = _joined(STYLES), _joined(SCRIPTS)
        document = _text("page.html").replace(_STYLE_MARK, style).replace(_SCRIPT_MARK, script)
        body = document.encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(body, etag, _policy(style, script))


def _joined(names: Sequence[str]) -> str:
    return "\n" + "\n".join(_text(name) for name in names)


def _text(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(inline: str) -> str:
    digest = hashlib.sha256(inline.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
