from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.tokenizer import SHORT, Tokenizer, guarded
from transformers import PreTrainedTokenizerFast

from tests.gateway.text.samples import CORPUS, KINDS, files_of, raw_tokenizer, token_id, tokenizer

EXAMPLES = settings(max_examples=100, deadline=None)
TEXT = st.text(max_size=40) | st.sampled_from(CORPUS)


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(TEXT, st.booleans())
def test_a_text_gets_the_ids_of_hugging_faces_tokenizer(kind: str, text: str, add: bool) -> None:
    expected = raw_tokenizer(kind).encode(text, add_special_tokens=add).ids
    assert tokenizer(kind).encode(text, add_special_tokens=add) == expected


LONG = st.lists(st.sampled_from(CORPUS[:4]) | st.text(max_size=20), max_size=8).map(
    lambda pieces: "".join([*pieces, " the fox"]) * (SHORT // 8 + 1)
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(LONG, st.booleans())
def test_a_long_text_is_read_and_written_as_a_short_one(kind: str, text: str, add: bool) -> None:
    raw, loaded = raw_tokenizer(kind), tokenizer(kind)
    assert len(text) > SHORT
    ids = raw.encode(text, add_special_tokens=add).ids
    assert loaded.encode(text, add_special_tokens=add) == ids
    assert loaded.decode(ids) == raw.decode(ids)
    assert loaded.encode_covered(text, str) == raw.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_found_in_a_long_text_where_they_are(kind: str) -> None:
    frame = next(iter(tokenizer(kind).special.by_id.values())).content
    text = f"naïve 你好 🙂 {frame} " * (SHORT // 10)
    at = [place for place in range(len(text)) if text.startswith(frame, place)]
    assert tokenizer(kind).special_text(text) == [(place, place + len(frame)) for place in at]


def ticks_during(call: Callable[[], object]) -> int:
    """How often this thread got to run while another one was in the call."""
    with ThreadPoolExecutor(1) as pool:
        ticks, running = 0, pool.submit(call)
        while not running.done():
            time.sleep(0.001)
            ticks += 1
        running.result()
    return ticks


def test_other_threads_run_while_a_long_text_is_tokenized() -> None:
    loaded = tokenizer("byte_level")
    text = "".join(CORPUS) * 600
    ids = loaded.encode(text) * 8  # decoding is quick: it must last for many ticks too
    assert ticks_during(lambda: loaded.encode(text)) > 20
    assert ticks_during(lambda: loaded.decode(ids)) > 20
    assert ticks_during(lambda: loaded.encode_covered("<|im_end|>" + text, str)) > 20
    assert ticks_during(lambda: loaded.encode_covered(text + "@", lambda one: one[:-1])) > 20
    normalized = tokenizer("normalized")
    assert ticks_during(lambda: normalized.special_text(text)) > 20


class Looks:
    """An encoding that counts how often its lists are asked for: each time makes them anew."""

    def __init__(self, encoding: tokenizers.Encoding) -> None:
        self._encoding = encoding
        self.count = 0

    @property
    def ids(self) -> list[int]:
        self.count += 1
        return self._encoding.ids

    @property
    def offsets(self) -> list[tuple[int, int]]:
        self.count += 1
        return self._encoding.offsets


def test_the_lists_of_an_encoding_are_made_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Tokenizer.from_files(files_of("byte_level"))
    text = "<|im_start|>a<|im_end|>" * 100
    looks = Looks(raw_tokenizer("byte_level").encode(text))
    monkeypatch.setattr(loaded, "_encoding", lambda *_, **__: looks)
    assert loaded.encode_covered(text, str) == raw_tokenizer("byte_level").encode(text).ids
    assert looks.count <= 4


@pytest.mark.parametrize("kind", ["byte_level", "normalized"])
@EXAMPLES
@given(st.text(max_size=40))
def test_the_bytes_of_the_tokens_are_those_of_the_text(kind: str, text: str) -> None:
    ids = tokenizer(kind).encode(text, add_special_tokens=False)
    joined = b"".join(tokenizer(kind).token_bytes(one) for one in ids)
    assert joined.decode() == raw_tokenizer(kind).decode(ids, skip_special_tokens=False)


def test_byte_tokens_of_a_sentence_piece_vocabulary_are_bytes() -> None:
    llama = tokenizer("llama")
    ids = llama.encode("a 🙂", add_special_tokens=False)
    assert b"".join(map(llama.token_bytes, ids)) == " a 🙂".encode()
    assert llama.token_bytes(token_id("llama", "<0xE4>")) == b"\xe4"


def test_a_token_outside_of_the_byte_alphabet_stands_for_itself() -> None:
    one = token_id("byte_level", "你x")
    assert tokenizer("byte_level").token_bytes(one) == "你x".encode()


def test_special_and_unknown_ids_have_bytes_too() -> None:
    assert (
        tokenizer("byte_level").token_bytes(token_id("byte_level", "<|im_end|>")) == b"<|im_end|>"
    )
    assert tokenizer("byte_level").token_bytes(10**6) == b""
    assert tokenizer("word_piece").token_bytes(token_id("word_piece", "the"))


def test_truncation_and_padding_of_the_file_are_turned_off() -> None:
    raw = tokenizers.Tokenizer.from_str(raw_tokenizer("byte_level").to_str())
    raw.enable_truncation(4)
    raw.enable_padding(length=50)
    loaded = Tokenizer.from_files({"tokenizer.json": raw.to_str().encode()})
    text = "the quick brown fox jumps"
    assert loaded.encode(text) == raw_tokenizer("byte_level").encode(text).ids


def test_a_token_that_the_config_names_is_special() -> None:
    spec = json.loads(raw_tokenizer("byte_level").to_str())
    for token in spec["added_tokens"]:
        token["special"] = token["special"] and token["content"] != "<|im_end|>"
    files = {
        "tokenizer.json": json.dumps(spec).encode(),
        "tokenizer_config.json": json.dumps({"eos_token": {"content": "<|im_end|>"}}).encode(),
    }
    loaded = Tokenizer.from_files(files)
    end = loaded.encode("<|im_end|>")
    assert loaded.special.eos == "<|im_end|>"
    assert end[0] in loaded.special.ids
    assert loaded.decode(end) == ""
    assert loaded.size == tokenizer("byte_level").size


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer.json": b"{"}, "not valid JSON"),
        ({"tokenizer.json": b"[]"}, "not a JSON object"),
        ({"tokenizer.json": b"{}"}, "cannot be loaded"),
        ({**files_of("llama"), "tokenizer_config.json": b"\xff"}, "not valid JSON"),
    ],
)
def test_broken_files_are_a_value_error_that_says_what_is_wrong(
    files: dict[str, bytes], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Tokenizer.from_files(files)


def test_a_panic_in_rust_becomes_an_ordinary_error() -> None:
    panic: Any = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def call() -> None:
        raise panic

    with pytest.raises(ValueError, match="PanicException"):
        guarded(call)
    with pytest.raises(KeyboardInterrupt):
        guarded(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_half_a_surrogate_pair_is_a_bad_request() -> None:
    with pytest.raises(InvalidRequest, match="cannot be tokenized"):
        tokenizer("byte_level").encode("\ud800")
    with pytest.raises(InvalidRequest, match="cannot be tokenized"):
        tokenizer("byte_level").encode("a" * 5000 + "\ud800")


def test_several_threads_get_the_same_as_one() -> None:
    loaded = Tokenizer.from_files(files_of("unigram_first"))
    texts = [f"{line} <s> {number}" for number, line in enumerate(CORPUS)]
    start = threading.Barrier(8)

    def work(_: int) -> list[list[int]]:
        start.wait()
        covered = [text.replace("<s>", "\U000f0000") for text in texts]
        plain = [loaded.encode(text) for text in texts]
        return plain + [
            loaded.encode_covered(text, lambda one: one.replace("\U000f0000", "<s>"))
            for text in covered
        ]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("said", [{}, {"add_bos_token": False}, {"add_eos_token": True}])
def test_what_is_put_around_a_text_is_what_transformers_puts(
    said: dict[str, bool], tmp_path: Path
) -> None:
    # As there, tokenizer.json has the last word.
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        **said,
    }
    files = {**files_of("llama"), "tokenizer_config.json": json.dumps(config).encode()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    loaded = Tokenizer.from_files(files)
    assert loaded.encode("hello") == theirs("hello")["input_ids"]
    for skip in (True, False):
        ids = loaded.encode("hello")
        assert loaded.decode(ids, skip_special_tokens=skip) == theirs.decode(
            ids, skip_special_tokens=skip
        )
