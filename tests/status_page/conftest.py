"""Pages of a real browser; whatever they do, they stay at their gateway and break no policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.status_page.browser import CHROMIUM, MISSING, Browser, Page, browser

#: Opens a gateway's status page.
Open = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One browser for all: it is as heavy as all that it looks at."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("status-page"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    pages: list[tuple[str, Page]] = []

    def opened(url: str, width: int = 1280, height: int = 900) -> Page:
        page = chromium.open(url, width, height)
        pages.append((url, page))
        return page

    yield opened
    for url, page in pages:
        assert page.faults() == []
        hosts = {urlsplit(each).netloc for each in page.requested() if not each.startswith("data:")}
        assert hosts == {urlsplit(url).netloc}
        page.close()
