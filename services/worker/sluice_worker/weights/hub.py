"""A model repository on the hub, through the hub's own client."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    get_token,
    hf_hub_url,
    hf_raise_for_status,
)
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from sluice_worker import __version__
from sluice_worker.weights.hub_file import HubFile, Listing

CONNECT_SECONDS = 10.0

FIRST_PAUSE_SECONDS = 0.25
LAST_PAUSE_SECONDS = 10.0

RETRY_AFTER_MAX_SECONDS = 900.0

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

#: In an address: name and password, and the query, which signs what a hub's store hands out.
_USER = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class HubError(Exception):
    """The hub did not give what was asked for.

    The message is one line fit for clients; ``detail`` is for the log, and has no secrets that
    addresses hold. ``may_pass``: asking again can help; ``retry_after``: the seconds that the hub
    asks to wait.
    """

    def __init__(
        self,
        message: str,
        detail: str = "",
        *,
        may_pass: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = _QUERY.sub(r"\1", _USER.sub("", detail))
        self.may_pass = may_pass
        self.retry_after = retry_after

    def pause_seconds(self, failures: int) -> float:
        """How long to wait before asking again, after so many failures in a row.

        Longer each time, or as long as the hub asks.
        """
        pause = min(FIRST_PAUSE_SECONDS * 2.0**failures, LAST_PAUSE_SECONDS)
        return max(pause * random.uniform(0.7, 1), self.retry_after or 0)


class RevisionMissing(HubError):
    """The repository has no such revision: nothing in a cache can stand in for it."""


class RangeRefused(HubError):
    """The file on the hub ends before the offset asked for."""


@dataclass(frozen=True, slots=True)
class Body:
    """A file's bytes as they come, from ``offset`` on."""

    offset: int
    chunks: Iterator[bytes]


class HubRepo:
    """One repository at one revision. The token is what HF_TOKEN or HF_TOKEN_PATH give."""

    def __init__(self, repo_id: str, revision: str | None, read_seconds: float) -> None:
        self.repo_id = repo_id
        self.revision = revision or constants.DEFAULT_REVISION
        self._read_seconds = read_seconds

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE forbids to ask."""
        return constants.is_offline_mode()

    def offline_error(self) -> HubError:
        """Why nothing can be asked."""
        return self._refusal(OfflineModeIsEnabled())

    def listing(self) -> Listing:
        """The revision's commit and files. Raises HubError."""
        with self._errors(), _nonsense():
            info = HfApi().model_info(
                self.repo_id,
                revision=self.revision,
                files_metadata=True,
                timeout=CONNECT_SECONDS,
            )
            files = tuple(file for each in info.siblings or [] if (file := _file(each)))
            if not _COMMIT.fullmatch(info.sha or ""):
                raise ValueError("the listing names no commit")
        return Listing(str(info.sha), files, gated=bool(info.gated))

    @contextlib.contextmanager
    def open(self, name: str, commit: str, offset: int = 0) -> Iterator[Body]:
        """The file's content, from ``offset`` if the server can do that, else from 0.

        Raises HubError, from the body's iteration too.
        """
        url = hf_hub_url(self.repo_id, name, revision=commit)
        headers = {"Accept-Encoding": "identity", "User-Agent": f"sluice/{__version__}"}
        if token := get_token():
            headers["Authorization"] = f"Bearer {token}"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = httpx2.Timeout(self._read_seconds, connect=CONNECT_SECONDS)
        with (
            self._errors(),
            get_session().stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=True
            ) as response,
        ):
            hf_raise_for_status(response)
            resumed = response.status_code == httpx2.codes.PARTIAL_CONTENT
            if resumed and response.headers.get("Content-Encoding", "identity") != "identity":
                raise HubError("the hub sends parts of a compressed file", may_pass=True)
            yield Body(offset if resumed else 0, response.iter_bytes())

    def read(self, file: HubFile, commit: str) -> bytes:
        """A small file's content, not verified. Raises HubError."""
        content = b""
        with self.open(file.name, commit) as body:
            for chunk in body.chunks:
                content += chunk
                if len(content) > file.size:
                    raise HubError(f"the hub sends more of {file.name} than it announced")
        return content

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate what the hub's client raises."""
        try:
            yield
        except (HfHubHTTPError, OfflineModeIsEnabled, HFValidationError) as error:
            raise self._refusal(error) from error
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            text = "HF_ENDPOINT is no address of a hub: expected https://HOST"
            raise HubError(text, f"{constants.ENDPOINT}: {error}") from error
        except httpx2.RequestError as error:
            reason = _reason(error)
            raise HubError(
                f"the hub cannot be reached ({reason}): check the network, a proxy, HF_ENDPOINT",
                f"{urlsplit(constants.ENDPOINT).hostname}: {error}",
                may_pass=not isinstance(error, httpx2.TooManyRedirects),
            ) from error

    def _refusal(self, error: Exception) -> HubError:
        model, has_token = self.repo_id, get_token() is not None
        match error:
            case OfflineModeIsEnabled():
                text = f"HF_HUB_OFFLINE is set and {model} is not wholly in the cache"
                return HubError(f"{text}: download it first, or allow the network")
            case HFValidationError():
                return HubError(f"{model} is no hub id (org/name): check MODEL_ID")
            case GatedRepoError() if has_token:
                text = f"{model} is gated and the token's account has no access to it yet"
                return HubError(f"{text}: ask for it on the model's page, or use another token")
            case GatedRepoError():
                text = f"{model} is gated and there is no token: ask for access on its page"
                return HubError(f"{text}, then set HF_TOKEN or HF_TOKEN_PATH")
            case RevisionNotFoundError():
                text = f"{model} has no revision {self.revision}: check MODEL_REVISION"
                return RevisionMissing(text)
            case DisabledRepoError():
                return HubError(f"{model} is disabled on the hub: choose another model")
            case RemoteEntryNotFoundError():
                return HubError(f"a file of {model} is gone from the hub: set MODEL_REVISION")
            case RepositoryNotFoundError():
                text = f"the hub has no model {model}, or it is private: check MODEL_ID"
                more = "that the token may read it" if has_token else "set HF_TOKEN if it is"
                return HubError(f"{text}, and {more}")
            case HfHubHTTPError():
                return self._bad_status(error, has_token=has_token)
        raise AssertionError("not an error of the hub") from error

    def _bad_status(self, error: HfHubHTTPError, *, has_token: bool) -> HubError:
        response, model = error.response, self.repo_id
        status, detail = response.status_code, str(error).strip().replace("\n", " ")
        if status == httpx2.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return RangeRefused("the hub has less of a file than it announced", detail)
        if status == httpx2.codes.UNAUTHORIZED:
            text = "the hub refuses the token" if has_token else "the hub asks for a token"
            return HubError(f"{text}: check HF_TOKEN or HF_TOKEN_PATH", detail)
        if status == httpx2.codes.FORBIDDEN:
            text = f"the token may not read {model}" if has_token else f"{model} needs a token"
            return HubError(f"{text}: give one with read access (HF_TOKEN)", detail)
        if status == httpx2.codes.TOO_MANY_REQUESTS:
            text = "the hub asks for fewer requests (429)"
            return HubError(text, detail, may_pass=True, retry_after=_retry_after(response))
        return HubError(
            f"the hub answers with an error ({status})", detail, may_pass=status in _MAY_PASS
        )


@contextlib.contextmanager
def _nonsense() -> Iterator[None]:
    """Translate what comes of an answer that is no listing: a login page, say."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HubError(
            "the hub's answer makes no sense: check HF_ENDPOINT, and that no proxy answers "
            "in its place",
            f"{type(error).__name__}: {error}",
        ) from error


def _file(sibling: RepoSibling) -> HubFile | None:
    """A file of the listing; None for one in a subfolder. Raises ValueError.

    Nothing that the hub says may name a path outside of the cache.
    """
    if not _NAME.fullmatch(sibling.rfilename):
        return None
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.lfs.size if sibling.lfs else sibling.size
    if not (_DIGEST.fullmatch(digest or "") and isinstance(size, int) and size >= 0):
        raise ValueError(f"{sibling.rfilename} has no hash and size")
    return HubFile(sibling.rfilename, size, str(digest))


def _reason(error: httpx2.RequestError) -> str:
    match error:
        case httpx2.TooManyRedirects():
            return "it sends from one address to the next"
        case httpx2.ConnectTimeout():
            return "no connection in time"
        case httpx2.TimeoutException():
            return "it sends nothing"
        case httpx2.ProxyError():
            return "the proxy refuses"
        case httpx2.ConnectError():
            text = str(error).lower()
            if "name or service" in text or "name resolution" in text or "nodename" in text:
                return "its name cannot be resolved"
            return "TLS failed" if "certificate" in text or "ssl" in text else "no connection"
    return "the connection broke"


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds to wait, by either header that hubs send; at most RETRY_AFTER_MAX_SECONDS."""
    limit = parse_ratelimit_headers(response.headers)
    text = response.headers.get("Retry-After", "" if limit is None else limit.reset_in_seconds)
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(0.0, min(seconds, RETRY_AFTER_MAX_SECONDS))
