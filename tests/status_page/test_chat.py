"""The status page's chat box, and the figures that tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEXT
from tests.engines import worker_environment
from tests.processes import Gateway, gateway, worker
from tests.status_page.browser import Page
from tests.status_page.conftest import Open

SAID = "document.querySelector('.answer:last-child .said')?.innerText ?? ''"
ENDED = "document.querySelector('.answer:last-child .note')?.innerText.includes('tokens')"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("secret\n")
    return path


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[Gateway]:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="20", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address) as started,
    ):
        yield started


def ask(page: Page, text: str) -> None:
    page.wait("document.querySelector('#chat-model').value")
    page.write("#chat-text", text)
    page.press_enter()


def asked(page: Page) -> list[dict[str, Any]]:
    """The bodies of the page's requests for answers."""
    posts = [request for request in page.requests() if request["method"] == "POST"]
    return [json.loads(post["postData"]) for post in posts]


def test_an_answer_comes_token_by_token_and_the_next_question_goes_on_from_it(
    open_page: Open, front: Gateway
) -> None:
    page = open_page(front.url)
    page.value(
        """(() => {
          window.lengths = new Set();
          const look = () => {
            const said = document.querySelector(".answer .said");
            if (said) lengths.add(said.textContent.length);
          };
          const options = {subtree: true, childList: true, characterData: true};
          new MutationObserver(look).observe(document.querySelector("#chat-log"), options);
        })()"""
    )
    page.value("document.querySelector('#chat-tokens').value = 40")
    ask(page, "One?")
    page.wait(ENDED)
    assert page.value("lengths.size") > 20
    first = page.value(SAID)
    assert (TEXT * 9).startswith(first.strip())
    note = page.text(".answer .note")
    assert "First token after" in note
    assert "tokens/s" in note
    assert "40 tokens · cut at the most tokens" in note

    ask(page, "Two?")
    page.wait("document.querySelectorAll('.answer').length === 2")
    page.wait(ENDED)
    one, two = asked(page)
    assert one["max_tokens"] == 40
    assert one["model"] == "fake-model"
    assert [turn["role"] for turn in two["messages"]] == ["user", "assistant", "user"]
    assert two["messages"][1]["content"].strip() == first.strip()

    page.click("#chat-clear")
    assert page.text(".answer") == ""


def test_the_demo_model_answers_on_its_own_engine(open_page: Open) -> None:
    with worker("demo", **worker_environment()) as demo, gateway(demo.address) as front:
        page = open_page(front.url)
        ask(page, "Say hello")
        page.wait(ENDED)
        assert page.value(SAID)
        assert page.text(".model .name") == "sluice-demo"


def test_stop_frees_the_row_and_keeps_what_was_said(open_page: Open, front: Gateway) -> None:
    page = open_page(front.url)
    page.value("document.querySelector('#chat-tokens').value = 4000")
    ask(page, "One?")
    page.wait(SAID)
    page.wait("document.querySelector('.worker').innerText.includes('1 of 32')")
    figures = "document.querySelector('#figures').innerText"
    page.wait(f"/In the batch\\s+1\\s*of 32/.test({figures})")
    page.wait(f"/Live answers\\s+1/.test({figures})")
    page.wait(f"/Tokens per second\\s+[1-9]/.test({figures})")
    page.wait(f"/First token\\s+[0-9.]+\\s*m?s/.test({figures})")
    drawn = "[...document.querySelectorAll('.spark .line')].every((line) => line.getAttribute('d'))"
    page.wait(drawn)
    page.click("#chat-stop")
    page.wait("document.querySelector('.answer .note').innerText === 'Stopped.'")
    page.wait("document.querySelector('.worker').innerText.includes('0 of 32')")
    said = page.value(SAID)
    page.value("document.querySelector('#chat-tokens').value = 3")
    ask(page, "Two?")
    page.wait(ENDED)
    assert asked(page)[-1]["messages"][1]["content"].strip() == said.strip()


def test_errors_are_told_in_the_apis_words(open_page: Open, front: Gateway) -> None:
    page = open_page(front.url)
    page.value("document.querySelector('#chat-tokens').value = 99999")
    ask(page, "One?")
    page.wait("document.querySelector('.answer .reason')?.innerText.includes('8192')")
    assert page.text(".answer .note") == "context_length_exceeded"
    assert page.text(".answer button") == ""


def test_a_key_is_asked_for_when_one_is_needed_and_kept_in_this_tab_alone(
    open_page: Open, fake_model_dir: Path, keys: Path
) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address, API_KEYS_FILE=str(keys)) as front,
    ):
        page = open_page(front.url)
        page.wait("document.querySelector('.model[data-state=ready]')")
        assert page.value("document.querySelector('#chat-key-row').hidden")
        ask(page, "One?")
        page.wait("document.querySelector('.answer .reason')?.innerText.includes('API key')")
        assert page.text(".answer .note") == "invalid_api_key"
        page.wait("document.activeElement.id === 'chat-key'")
        page.command("Input.insertText", text="secret")
        page.click(".answer button")
        page.wait(ENDED)
        assert page.value("Object.values(sessionStorage)") == ["secret"]
        assert page.value("[document.cookie, ...Object.values(localStorage)]") == [""]
        keyed = [each for each in page.requests() if "secret" in json.dumps(each)]
        assert [each["url"] for each in keyed] == [f"{front.url}/v1/chat/completions"]


def test_another_models_name_stays_chosen_and_is_asked(
    open_page: Open, fake_model_dir: Path
) -> None:
    settings = {"ENGINE": "fake", "FAKE_TEXT": TEXT, "LORA_MODULES": "poet=org/poet"}
    with worker(fake_model_dir, **settings) as fake, gateway(fake.address, wait=False) as front:
        front.wait_ready(models=2)
        page = open_page(front.url)
        page.wait("document.querySelector('#chat-model').options.length === 2")
        page.value(
            """(() => {
              const models = document.querySelector("#chat-model");
              models.value = "poet";
              models.dispatchEvent(new Event("change"));
            })()"""
        )
        ask(page, "One?")
        page.wait(ENDED)
        assert page.value(SAID).startswith("poet: ")
        assert page.value("document.querySelector('#chat-model').value") == "poet"
