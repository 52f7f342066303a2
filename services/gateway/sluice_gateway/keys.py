"""API keys: kept as hashes, compared in constant time, re-read when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from sluice_gateway.errors import InvalidKey

log = logging.getLogger(__name__)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """The keys in a file, one a line; ``#`` begins a comment. No file: everybody may enter."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._digests: tuple[bytes, ...] = ()
        self._refresh()

    def check(self, authorization: str | None) -> None:
        """Let the bearer of a key in. Raises InvalidKey."""
        if self._path is None:
            return
        self._refresh()
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidKey(
                "You did not provide an API key. Send it as 'Authorization: Bearer KEY'.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        given = _digest(key.strip())
        # Every digest is compared, so that the time tells nothing about which one is near.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if not any(matches):
            raise InvalidKey("Incorrect API key provided.", headers={"WWW-Authenticate": "Bearer"})

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            if self._read_at == (stat.st_mtime_ns, stat.st_ino):
                return
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            if self._read_at is None:
                raise
            # A Secret is swapped by a rename: the file may be missing for a moment.
            log.warning("API_KEYS_FILE cannot be read (%s); the last keys stay", error.strerror)
            return
        keys = (line.partition("#")[0].strip() for line in lines)
        self._digests = tuple(_digest(key) for key in keys if key)
        self._read_at = (stat.st_mtime_ns, stat.st_ino)
        log.info("%d API keys read", len(self._digests))
