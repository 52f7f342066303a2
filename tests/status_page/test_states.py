"""The status page tells why a model does not answer yet."""

from __future__ import annotations

import random
import signal
import socket
from pathlib import Path

import pytest

from tests import hub
from tests.conftest import write_fake_model
from tests.processes import gateway, worker
from tests.status_page.conftest import Open

MODEL = "org/small"


def free_port() -> int:
    """A port for a worker that is started after the gateway that is told of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the fake engine, of a size that takes a while to download."""
    folder = write_fake_model(tmp_path_factory.mktemp("models") / "small")
    size = 4_000_000
    header = f'{{"w": {{"dtype": "U8", "shape": [{size}], "data_offsets": [0, {size}]}}}}'.encode()
    data = len(header).to_bytes(8, "little") + header + random.Random(0).randbytes(size)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def test_without_a_worker_it_says_where_one_is_looked_for_and_what_to_do(open_page: Open) -> None:
    with gateway("127.0.0.1:1", wait=False) as alone:
        page = open_page(alone.url)
        page.wait("!document.querySelector('#nothing').hidden")
        assert "looks for workers at 127.0.0.1:1" in page.text("#nothing")
        assert "make run" in page.text("#nothing")
        assert page.text("#status") == "Waiting for a worker"
        assert "No worker has been reached yet" in page.text("#summary")
        page.wait("document.querySelector('.worker .reason').innerText.includes('refused')")
        assert page.value("document.querySelector('#chat-send').disabled")


def test_a_download_moves_its_bar_and_a_request_from_the_page_waits_for_it(
    open_page: Open, model_dir: Path, tmp_path: Path
) -> None:
    with hub.serving({MODEL: model_dir}) as served:
        served.faults.bytes_per_second = 5e4
        with (
            worker(MODEL, ENGINE="fake", **hub.environment(served, tmp_path / "cache")) as started,
            gateway(started.address, wait=False) as front,
        ):
            page = open_page(front.url)
            bar = "document.querySelector('.model [role=progressbar]')"
            page.wait(f"Number({bar}?.getAttribute('aria-valuenow')) > 0")
            card = ".model[data-state=downloading]"
            assert "model.safetensors" in page.text(card)
            assert " MB" in page.text(card)
            # A rate tells the time left after a second; the bar moves sooner.
            page.wait(f"document.querySelector('{card}').innerText.includes('left')")
            assert page.text(f"{card} [aria-current=step]") == "Downloading"
            assert page.text("#summary") == f"{MODEL} is downloading."
            assert page.text("#status") == "Waiting for a model"

            page.write("#chat-text", "Hi")
            page.press_enter()
            page.wait(
                "document.querySelector('.answer .reason')?.innerText.includes('downloading')"
            )
            page.click(".answer button")
            page.wait(
                "document.querySelector('.answer:last-child .note').innerText.includes('ready')"
            )

            at = int(page.value(f"{bar}.getAttribute('aria-valuenow')"))
            width = f"{bar}.firstChild.getBoundingClientRect().width"
            wide = page.value(width)
            later = f"Number({bar}.getAttribute('aria-valuenow')) > {at} && {width} > {wide}"
            page.wait(f"{bar}.checkVisibility() && {later}")
            served.faults.bytes_per_second = 0  # the rest at once

            page.wait("document.querySelector('.model[data-state=ready]')")
            page.wait(
                "document.querySelector('.answer:last-child .note').innerText.includes('token')"
            )
            assert page.text(".answer:last-child .said")
            assert page.text("#status") == "Serving"
            assert page.text("#summary") == f"{MODEL} answers."
            assert page.value("document.title") == "Sluice · 1 of 1 ready"
            assert not page.value(f"{bar}.checkVisibility()")


def test_a_model_that_failed_is_told_with_its_reason_in_full(
    open_page: Open, model_dir: Path, tmp_path: Path, fake_model_dir: Path
) -> None:
    port = free_port()
    with (
        hub.serving({MODEL: model_dir}) as served,
        worker(fake_model_dir, ENGINE="fake") as good,
        gateway(good.address, f"127.0.0.1:{port}") as front,
    ):
        page = open_page(front.url)
        page.wait("document.querySelector('#summary').innerText.includes('has not been reached')")
        with worker("org/wrong", port, **hub.environment(served, tmp_path / "cache")) as bad:
            page.wait("document.querySelector('.model[data-state=failed]')")
            assert bad.process.wait() == 1
        reason = page.text(".model[data-state=failed] .reason")
        assert "check MODEL_ID" in reason
        [told] = [each for each in front.health()["models"] if each["state"] == "failed"]  # type: ignore[attr-defined]
        assert reason.lower().removesuffix(".") == told["message"].lower().removesuffix(".")
        assert page.text("#summary") == "1 of 2 models answers. org/wrong has failed."
        assert "Mend what is named here" in page.text(".model[data-state=failed]")


def test_workers_that_come_and_go_are_told_of(open_page: Open, fake_model_dir: Path) -> None:
    environment = {"ENGINE": "fake", "LORA_MODULES": "poet=org/poet"}
    with worker(fake_model_dir, **environment) as fake, gateway(fake.address, wait=False) as front:
        page = open_page(front.url)
        page.wait("document.querySelectorAll('.model[data-state=ready]').length === 2")
        assert page.text(".model:last-child .name") == "poet"
        assert "adapter of fake-model" in page.text(".model:last-child")
        assert "0 of 32" in page.text(".worker")
        fake.process.signal(signal.SIGKILL)
        page.wait("document.querySelector('.worker[data-state=lost]')")
        assert "has lost its workers" in page.text("#summary")
        assert "its log says last" in page.text(".model")


def test_a_gateway_that_drains_and_then_is_gone_is_told_of(
    open_page: Open, fake_model_dir: Path
) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="50") as fake,
        gateway(fake.address, DRAIN_SECONDS="120") as front,
    ):
        page = open_page(front.url)
        page.wait("document.querySelector('#chat-model').value")
        page.value("document.querySelector('#chat-tokens').value = 8000")
        page.write("#chat-text", "Hi")
        page.press_enter()
        page.wait("document.querySelector('.answer .said')?.innerText")
        front.process.signal(signal.SIGTERM)
        page.wait("document.querySelector('#status').innerText === 'Shutting down'")
        assert "takes nothing new" in page.text("#summary")
        page.click("#chat-stop")
        assert front.process.wait() == 0
        page.wait("document.querySelector('#status').innerText === 'No answer'")
        assert "does not answer" in page.text("#summary")
        assert page.text(".model .name") == "fake-model"


def test_what_a_server_says_is_never_markup(open_page: Open, fake_model_dir: Path) -> None:
    name = "<img src=x onerror='document.title=1'><b>bold</b>"
    settings = {"ENGINE": "fake", "SERVED_MODEL_NAME": name, "FAKE_TEXT": "<i>said</i> "}
    with worker(fake_model_dir, **settings) as fake, gateway(fake.address) as front:
        page = open_page(front.url)
        page.wait("document.querySelector('.model[data-state=ready]')")
        page.write("#chat-text", "<u>asked</u>")
        page.press_enter()
        page.wait("document.querySelector('.answer .note')?.innerText.includes('tokens')")
        assert page.text(".model .name") == name
        assert page.text(".user") == "<u>asked</u>"
        assert "<i>said</i>" in page.text(".answer .said")
        assert page.value("document.querySelectorAll('img, b, i, u').length") == 0


@pytest.mark.parametrize("width", [320, 360, 768, 960, 1440])
def test_nothing_is_wider_than_the_screen(
    open_page: Open, fake_model_dir: Path, width: int
) -> None:
    name = "a-rather-long-organisation/" + "a-model-with-a-name-that-goes-on-" * 4
    settings = {"ENGINE": "fake", "SERVED_MODEL_NAME": name, "FAKE_TEXT": "w" * 400}
    with worker(fake_model_dir, **settings) as fake, gateway(fake.address) as front:
        page = open_page(front.url, width, 800)
        page.wait("document.querySelector('.model[data-state=ready]')")
        page.write("#chat-text", "v" * 300)
        page.press_enter()
        page.wait("document.querySelector('.answer .note')?.innerText.includes('tokens')")
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        assert page.value("document.querySelector('#chat-log').scrollWidth") == page.value(
            "document.querySelector('#chat-log').clientWidth"
        )
