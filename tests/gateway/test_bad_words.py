from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from sluice_gateway.bad_words import BAD_WORD_IDS_MAX, bad_word_ids
from sluice_gateway.errors import InvalidRequest

from tests.conftest import TEXT
from tests.gateway.text.samples import model, raw_tokenizer
from tests.processes import gateway, worker
from tests.sse import chat, chat_text, stream

RAW = raw_tokenizer("byte_level")


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(RAW.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("word", ["fox", " fox", "   fox"])
def test_a_word_is_barred_with_and_without_a_space_before_it(word: str) -> None:
    assert bad_word_ids([word], model()) == (ids_of("fox"), ids_of(" fox"))


def test_a_word_of_more_tokens_behind_a_space_is_barred_there_too() -> None:
    assert len(ids_of("main")) != len(ids_of(" main"))
    assert set(bad_word_ids(["main", "main"], model())) == {ids_of("main"), ids_of(" main")}


def test_a_word_of_nothing_but_space_is_that_space() -> None:
    assert bad_word_ids(["\n"], model()) == (ids_of("\n"), ids_of(" \n"))


def test_no_words_are_none() -> None:
    assert bad_word_ids(None, model()) == ()


def test_too_many_tokens_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        bad_word_ids(["é" * (BAD_WORD_IDS_MAX // 2)], model())
    assert caught.value.param == "bad_words"


def test_a_word_beyond_the_logits_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        bad_word_ids(["hi", "fox"], model(vocab_size=ids_of("fox")[0]))
    assert caught.value.param == "bad_words[1]"


def test_bad_words_are_not_in_the_answer(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address) as front,
    ):
        body = chat(max_tokens=12, bad_words=["quick", "fox"])
        text = chat_text(list(stream(front.url + "/v1/chat/completions", body)))
        assert text.startswith("The brown")
        assert "quick" not in text
        assert "fox" not in text
        body = {"prompt": "x", "max_tokens": 12, "bad_words": [" jumps"]}
        answer = httpx.post(front.url + "/v1/completions", json=body).json()
        assert "fox over" in answer["choices"][0]["text"]  # and jumps not in between
        body = {"prompt": "x", "bad_words": [chr(0x4E00 + n) * 200 for n in range(4)]}
        refused = httpx.post(front.url + "/v1/completions", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "bad_words"
