"""The status page's route and its file; how it looks and works is in tests/status_page."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from sluice_gateway.status_page import SCRIPTS, STYLES, StatusPage

from tests.processes import Gateway, gateway

ROOT = Path(__file__).parents[2]
FOLDER = Path(str(files("sluice_gateway.status_page")))
PAGE = StatusPage.build()
TEXT = PAGE.body.decode()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("secret\n")
    with gateway("127.0.0.1:1", wait=False, API_KEYS_FILE=str(keys)) as started:
        yield started


def test_the_page_needs_no_key_and_says_how_it_is_to_be_treated(front: Gateway) -> None:
    response = httpx.get(front.url + "/")
    assert response.status_code == 200
    assert response.content == PAGE.body
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"] == PAGE.policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    assert "x-request-id" in headers


def test_head_has_the_headers_alone(front: Gateway) -> None:
    got, head = (httpx.request(method, front.url + "/") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    changing = ("date", "x-request-id")
    one, other = (
        {name: value for name, value in each.headers.items() if name not in changing}
        for each in (got, head)
    )
    assert one == other


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_that_has_the_page_is_told_so(front: Gateway, method: str) -> None:
    def ask(etag: str) -> httpx.Response:
        return httpx.request(method, front.url + "/", headers={"if-none-match": etag})

    for etag in (PAGE.etag, f'"other", W/{PAGE.etag}'):
        response = ask(etag)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == PAGE.etag
        assert response.headers["content-security-policy"] == PAGE.policy
    assert ask('"other"').status_code == 200


def test_other_methods_are_refused(front: Gateway) -> None:
    response = httpx.post(front.url + "/")
    assert response.status_code == 405
    assert set(re.split(r",\s*", response.headers["allow"])) == {"GET", "HEAD"}
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_it_can_be_turned_off() -> None:
    with gateway("127.0.0.1:1", wait=False, STATUS_PAGE="false") as without:
        for method in ("GET", "HEAD"):
            response = httpx.request(method, without.url + "/")
            assert response.status_code == 404
            assert "text/html" not in response.headers["content-type"]
        assert httpx.get(without.url + "/health").status_code == 503


class Parts(HTMLParser):
    """The inline parts, and all that the policy or good manners forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = ""
        self.inline: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("style", "script"):
            self.inline.append((self.inside, data))


def test_the_policy_names_the_inline_parts_by_their_hashes_and_nothing_else() -> None:
    parts = Parts()
    parts.feed(TEXT)
    assert [tag for tag, _ in parts.inline] == ["style", "script"]
    directives = dict(each.split(" ", 1) for each in PAGE.policy.split("; "))
    for tag, text in parts.inline:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    for _, name, _ in parts.attributes:
        assert name != "style"
        assert not name.startswith("on")


def test_it_names_no_address_outside_and_makes_no_markup_of_data() -> None:
    without_names = TEXT.replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert not re.search(r"\b(https?|wss?):|[\"'(]//|@import|url\(", without_names)
    script = "".join((FOLDER / name).read_text() for name in SCRIPTS)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in script
    assert "localStorage" not in script


def test_every_file_is_a_part_of_the_page_and_of_the_package() -> None:
    parts = {"page.html", *STYLES, *SCRIPTS}
    assert {path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")} == (
        parts
    )
    project = tomllib.loads((ROOT / "services/gateway/pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["sluice_gateway"]
    shipped = {path.name for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert parts <= shipped
    for name in parts:
        assert len((FOLDER / name).read_text().splitlines()) <= 300


def colours(scheme: str) -> dict[str, str]:
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", scheme))
    assert len(found) > 10
    return found


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(dark: bool) -> None:
    light, _, rest = (FOLDER / "base.css").read_text().partition("@media (prefers-color-scheme")
    scheme = colours(rest if dark else light)
    pairs = [(ink, "card") for ink in ("good", "busy", "away", "bad", "accent")]
    pairs += [(ink, ground) for ink in ("ink", "quiet") for ground in ("ground", "card", "sunk")]
    pairs += [("good", "ground"), ("busy", "ground"), ("away", "ground"), ("bad", "ground")]
    pairs += [("ink", "bad-ground"), ("ink", "away-ground"), ("on-accent", "accent")]
    for ink, ground in pairs:
        low, high = sorted((luminance(scheme[ink]), luminance(scheme[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
