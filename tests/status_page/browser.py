"""A real Chromium without a window, driven over its own protocol (DevTools) by two pipes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MISSING = "there is no Chromium here (Debian's package chromium)"

WAIT_SECONDS = 100.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)
#: Runs a command whose descriptors 3 and 4, where the browser reads and writes, are those named.
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """The protocol: commands with their results; events are kept for whoever asks."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._to = to_browser
        self._from = from_browser
        self._numbers = itertools.count(1)
        self._unread = b""

    def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a command. Fails when the browser calls it an error."""
        number = next(self._numbers)
        sent: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            sent["sessionId"] = session
        self._write(json.dumps(sent).encode() + b"\0")
        while (told := self._read()).get("id") != number:
            self.events.append(told)
        assert "error" not in told, f"{method}: {told['error']}"
        result: dict[str, Any] = told["result"]
        return result

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._to, data) :]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], WAIT_SECONDS)
            assert ready, "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def wait_for(self, method: str, session: str, **params: Any) -> None:
        """Wait for an event that has these parameters, unless it has been."""
        while not any(
            event["method"] == method
            and event.get("sessionId") == session
            and params.items() <= event["params"].items()
            for event in self.events
        ):
            self.events.append(self._read())

    def open(self, url: str, width: int = 1280, height: int = 900) -> Page:
        """A new page with storage of its own; returns when it is loaded."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        made = self.command("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.command("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        page = Page(self, session["sessionId"], context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.command(f"{domain}.enable")
        page.resize(width, height)
        page.command("Page.setLifecycleEventsEnabled", enabled=True)
        loader = page.command("Page.navigate", url=url)["loaderId"]
        self.wait_for("Page.lifecycleEvent", session["sessionId"], loaderId=loader, name="load")
        return page


class Page:
    """A page, which is looked at by JavaScript and used by keyboard and mouse."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context

    def close(self) -> None:
        """With all that it stored."""
        self._browser.command("Target.disposeBrowserContext", browserContextId=self._context)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """See Browser."""
        return self._browser.command(method, self._session, **params)

    def resize(self, width: int, height: int) -> None:
        """As a screen of that size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Media features that the reader prefers, with _ for -: prefers_color_scheme="dark"."""
        named = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.command("Emulation.setEmulatedMedia", features=named)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON has it. Promises are waited for."""
        options = {"returnByValue": True, "awaitPromise": True}
        told = self.command("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = WAIT_SECONDS) -> Any:
        """Wait until an expression is true; what it is then, which is true for an element."""
        looked = f"(found => found instanceof Node ? true : found)({expression})"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.value(looked):
                return found
            time.sleep(0.05)
        raise AssertionError(
            f"not within {seconds} s: {expression}\n{self.text()}\n{self.faults()}"
        )

    def text(self, selector: str = "body") -> str:
        """What is to be read there; empty when it is not there or hidden."""
        found = self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return " ".join(str(found).split())

    def click(self, selector: str) -> None:
        """A click with the mouse into the middle, once it can be hit there."""
        at = self.wait(
            f"""(() => {{
              const found = document.querySelector({json.dumps(selector)});
              found?.scrollIntoView({{block: "center"}});
              const box = found?.getBoundingClientRect();
              const at = box && [box.x + box.width / 2, box.y + box.height / 2];
              return at && found.contains(document.elementFromPoint(...at)) && at;
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
            self.command("Input.dispatchMouseEvent", type=kind, **where)

    def write(self, selector: str, text: str) -> None:
        """Type a text into a field."""
        self.click(selector)
        self.command("Input.insertText", text=text)

    def press_enter(self) -> None:
        """In the field that has the focus."""
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            self.command("Input.dispatchKeyEvent", type=kind, **key)

    def faults(self) -> list[str]:
        """Exceptions, refusals of the security policy and the like; not requests that failed."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["source"] != "network":
                found.append(json.dumps(params["entry"]))
        return found

    def requests(self) -> list[dict[str, Any]]:
        """All that was asked for: ``url``, ``method``, ``headers``, ``postData`` and more."""
        self.value("0")  # what was told before this is read
        return [
            event["params"]["request"]
            for event in self._browser.events
            if event["method"] == "Network.requestWillBeSent"
            and event.get("sessionId") == self._session
        ]

    def requested(self) -> set[str]:
        """The addresses of all that was asked for."""
        return {request["url"] for request in self.requests()}

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the whole page, or of what is seen of it."""
        options = {"format": "png", "captureBeyondViewport": whole}
        shot = self.command("Page.captureScreenshot", **options)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """Chromium with a new profile in ``home``; on leaving, all its processes are gone."""
    assert CHROMIUM, MISSING
    its_input, to_browser = os.pipe()
    from_browser, its_output = os.pipe()
    launcher = [sys.executable, "-c", _LAUNCHER, str(its_input), str(its_output)]
    with (home / "log").open("wb") as log:
        popen = subprocess.Popen(
            [*launcher, CHROMIUM, *_FLAGS, f"--user-data-dir={home / 'profile'}"],
            pass_fds=(its_input, its_output),
            env={**os.environ, "HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(its_input)
    os.close(its_output)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        os.close(to_browser)  # which is its sign to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        os.close(from_browser)
