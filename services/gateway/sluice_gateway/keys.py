"""API keys: kept as hashes, compared in constant time, re-read when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from sluice_gateway.errors import InvalidKey
from sluice_gateway.settings import SettingsError

log = logging.getLogger(__name__)

#: What tells one state of the file from another; all zero when it is not there.
_State = tuple[int, int, int, int]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """The keys in a file, one a line; ``#`` begins a comment. No file: everybody may enter.

    Raises SettingsError when the file cannot be read at first; later its last keys stay.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: _State | None = None
        self._warned_of: tuple[_State, str] | None = None
        self._digests: tuple[bytes, ...] = ()
        if path is not None:
            try:
                self._refresh(path)
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"API_KEYS_FILE={path}: {_reason(error)}") from error

    @property
    def required(self) -> bool:
        """Whether there is a file, so that nobody may enter without a key."""
        return self._path is not None

    def check(self, authorization: str | None) -> None:
        """Let the bearer of a key in. Raises InvalidKey."""
        if self._path is None:
            return
        self._refresh_or_warn(self._path)
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

    def _refresh_or_warn(self, path: Path) -> None:
        try:
            self._refresh(path)
        except (OSError, UnicodeDecodeError) as error:
            # A Secret is swapped by a rename: the file may be missing for a moment. It is tried
            # again at the next request, and told of once.
            trouble = (_state_or_zeros(path), _reason(error))
            if trouble != self._warned_of:
                log.warning("API_KEYS_FILE=%s: %s; the last keys stay", path, trouble[1])
            self._warned_of = trouble

    def _refresh(self, path: Path) -> None:
        state = _state(path)
        if state != self._read_at:
            lines = path.read_text(encoding="utf-8").splitlines()
            keys = (line.partition("#")[0].strip() for line in lines)
            self._digests = tuple(_digest(key) for key in keys if key)
            self._read_at = state
            log.info("%d API keys read", len(self._digests))
        self._warned_of = None


def _state(path: Path) -> _State:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size


def _state_or_zeros(path: Path) -> _State:
    try:
        return _state(path)
    except OSError:
        return 0, 0, 0, 0


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return error.strerror or type(error).__name__
