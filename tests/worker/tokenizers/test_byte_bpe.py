"""tiktoken's and Mistral's formats as tokenizer.json, beside tiktoken itself."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from sluice_gateway.template import ChatTemplate
from sluice_gateway.tokenizer import Tokenizer
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing
from sluice_worker.tokenizer_formats import byte_bpe, probe
from sluice_worker.tokenizer_formats.byte_bpe import SINGLE_DIGITS, TEKKEN, TRIPLE_DIGITS

from tests.worker.tokenizers.originals import (
    CHAT_TEMPLATE,
    CORPUS,
    byte_ranks,
    tekken_file,
    tiktoken_file,
    write,
)

RANKS = byte_ranks()
GLM = {
    "tokenizer_class": "ChatGLM4Tokenizer",
    "added_tokens_decoder": {
        str(len(RANKS) + place): {"content": content, "special": True}
        for place, content in enumerate(("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>"))
    },
    "eos_token": "<|endoftext|>",
    "chat_template": CHAT_TEMPLATE,
}


def library(pattern: str, ranks: dict[bytes, int] = RANKS) -> tiktoken.Encoding:
    return tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def converted(folder: Path, name: str, content: Any, **config: Any) -> Tokenizer:
    """The tokenizer as a gateway loads it."""
    files = TokenizerBundle.read(write(folder, name, content, **config)).files
    return Tokenizer.from_files(files)


def literal(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text's ids, where the text of special tokens is text."""
    return tokenizer.encode_covered("\ue123", lambda cover: cover.replace("\ue123", text))


def texts() -> list[str]:
    generator = random.Random(5)
    pools = (list(CORPUS), CORPUS.split(" "), list(" ax1\n"), ["你", "ü", "\t", "🙂", "12", "'s"])
    made = ["".join(generator.choices(generator.choice(pools), k=20)) for _ in range(1500)]
    return [*made, *probe.TEXTS]


@pytest.fixture(params=["with tiktoken", "without tiktoken"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without tiktoken":
        monkeypatch.setattr(byte_bpe, "find_spec", lambda _: None)


def test_tekken_is_encoded_and_decoded_as_by_tiktoken(either: None, tmp_path: Path) -> None:
    file = tekken_file()
    used = file["config"]["default_vocab_size"] - 20
    original = library(TEKKEN, {token: rank for token, rank in RANKS.items() if rank < used})
    tokenizer = converted(tmp_path, "tekken.json", file)
    for text in texts():
        ids = literal(tokenizer, text)
        assert ids == [rank + 20 for rank in original.encode_ordinary(text)], text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.size == file["config"]["default_vocab_size"]


def test_each_byte_has_its_token(tmp_path: Path) -> None:
    tokenizer = converted(tmp_path, "tekken.json", tekken_file())
    raw = [tokenizer.token_bytes(token_id) for token_id in range(20, tokenizer.size)]
    assert raw == list(RANKS)[: len(raw)]
    ids = [20 + byte for byte in "a🙂".encode()]
    assert tokenizer.decode(ids) == "a🙂"
    assert tokenizer.decode(ids[:-1]) == "a\ufffd"


def test_tekkens_special_tokens_have_the_first_ids(tmp_path: Path) -> None:
    tokenizer = converted(tmp_path, "tekken.json", tekken_file())
    assert tokenizer.special.names == {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    }  # fmt: skip
    assert tokenizer.encode("[INST]a</s><SPECIAL_19>") == [1, 3, 20 + ord("a"), 2, 19]
    assert tokenizer.special.ids == frozenset(range(20))
    assert tokenizer.decode([1, 3, 20 + ord("a"), 19]) == "a"


def test_the_first_tekken_files_do_not_list_their_special_tokens(tmp_path: Path) -> None:
    tokenizer = converted(tmp_path, "tekken.json", tekken_file(listed=False))
    assert tokenizer.encode("[TOOL_CALLS][SYSTEM_PROMPT]") == [1, 9, 17]
    assert tokenizer.size == tekken_file(listed=False)["config"]["default_vocab_size"]


def test_tekken_alone_has_no_chat_template(tmp_path: Path) -> None:
    files = TokenizerBundle.read(write(tmp_path, "tekken.json", tekken_file())).files
    with pytest.raises(Exception, match="no chat template"):
        ChatTemplate.from_files(files).render([{"role": "user", "content": "hi"}])
    (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    files = TokenizerBundle.read(tmp_path).files
    rendered = ChatTemplate.from_files(files).render([{"role": "user", "content": "hi"}])
    assert rendered == "<s>hi"


def test_tekken_comes_before_other_files_and_tokenizer_json_before_it(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.model", b"not read")
    tokenizer = converted(tmp_path, "tekken.json", tekken_file())
    assert tokenizer.encode("a") == [1, 20 + ord("a")]
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    assert TokenizerBundle.read(tmp_path).files["tokenizer.json"] == b"{}"


def test_a_pattern_that_means_something_else_here_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``{1,3}+`` is possessive in tiktoken's dialect, and repeated groups of three in ours."""
    pattern = r"\p{N}{1,3}+|\p{L}+|[^\p{N}\p{L}]+"
    ranks = dict(RANKS)
    digits = tekken_file(pattern=pattern, spare=0)
    for token in (b"12", b"34", b"1234"):  # across the border of three
        ranks[token] = len(ranks)
        encoded = {b"12": "MTI=", b"34": "MzQ=", b"1234": "MTIzNA=="}[token]
        digits["vocab"] = [t for t in digits["vocab"] if t["token_bytes"] != encoded]
        rank = len(digits["vocab"])
        digits["vocab"].append({"rank": rank, "token_bytes": encoded, "token_str": None})
    for rank, token in enumerate(digits["vocab"]):
        token["rank"] = rank
    digits["config"]["default_vocab_size"] = len(digits["vocab"]) + 20
    with pytest.raises(TokenizerMissing, match=r"tiktoken encodes .* in another way"):
        converted(tmp_path, "tekken.json", digits)
    monkeypatch.setattr(byte_bpe, "find_spec", lambda _: None)
    with pytest.raises(TokenizerMissing, match=r"package tiktoken.*add a tokenizer\.json"):
        converted(tmp_path, "tekken.json", digits)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("default_num_special_tokens", 3),
        ("default_vocab_size", None),
        ("pattern", 7),
        ("pattern", "("),
    ],
)
def test_a_damaged_tekken_file_is_named(key: str, value: object, tmp_path: Path) -> None:
    file = tekken_file()
    file["config"][key] = value
    with pytest.raises(TokenizerMissing, match=r"tekken\.json cannot be made one"):
        converted(tmp_path, "tekken.json", file)


def test_qwens_first_tokenizer_has_its_codes_special_tokens(either: None, tmp_path: Path) -> None:
    config = {"tokenizer_class": "QWenTokenizer", "model_type": "qwen", "auto_map": {}}
    tokenizer = converted(tmp_path, "qwen.tiktoken", tiktoken_file(RANKS), **config)
    original = library(SINGLE_DIGITS)
    for text in texts():
        normal = unicodedata.normalize("NFC", text)
        ids = literal(tokenizer, text)
        assert ids == original.encode_ordinary(normal), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == normal
    end = len(RANKS)
    marked = "<|im_start|><|im_end|><|endoftext|><|extra_204|>"
    assert tokenizer.encode(marked) == [end + 1, end + 2, end, end + 207]
    assert tokenizer.special.eos == "<|endoftext|>"


def test_glms_tokenizer_has_the_configs_special_tokens(either: None, tmp_path: Path) -> None:
    tokenizer = converted(tmp_path, "tokenizer.model", tiktoken_file(RANKS), **GLM)
    original = library(TRIPLE_DIGITS)
    for text in texts():
        assert literal(tokenizer, text) == original.encode_ordinary(text), text
    end = len(RANKS)
    hello = original.encode_ordinary("hello")
    assert tokenizer.encode("<|user|>hello") == [end + 1, end + 2, end + 3, *hello]
    assert tokenizer.special.eos == "<|endoftext|>"
    files = TokenizerBundle.read(tmp_path).files
    assert ChatTemplate.from_files(files).render([{"role": "user", "content": "hi"}]) == "hi"


def test_llamas_original_file_needs_the_special_tokens_from_the_config(tmp_path: Path) -> None:
    ranks = tiktoken_file(RANKS)
    with pytest.raises(TokenizerMissing, match="no file of the model lists its special tokens"):
        converted(tmp_path, "tokenizer.model", ranks, tokenizer_class="PreTrainedTokenizerFast")
    added = {str(len(RANKS)): {"content": "<|begin_of_text|>", "special": True}}
    config = {"added_tokens_decoder": added, "bos_token": "<|begin_of_text|>"}
    tokenizer = converted(tmp_path, "tokenizer.model", ranks, **config)
    assert tokenizer.encode("a") == [len(RANKS), ord("a")]


def test_ranks_whose_code_is_unknown_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "other", "tokenizer_class": "OtherTokenizer"}
    with pytest.raises(TokenizerMissing, match="code of its own") as caught:
        converted(tmp_path, "other.tiktoken", tiktoken_file(RANKS), **config)
    assert "add a tokenizer.json" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: data[:-20] + b"x\n", lambda data: data[12:]])
def test_a_damaged_file_of_ranks_is_named(damage: Any, tmp_path: Path) -> None:
    config = {"tokenizer_class": "QWenTokenizer"}
    with pytest.raises(TokenizerMissing, match=r"qwen\.tiktoken cannot be made one"):
        converted(tmp_path, "qwen.tiktoken", damage(tiktoken_file(RANKS)), **config)


def test_an_added_token_cannot_take_the_id_of_another(tmp_path: Path) -> None:
    added = {"300": {"content": "<|here|>", "special": True}}
    with pytest.raises(TokenizerMissing, match="takes the place of one of its own"):
        converted(
            tmp_path, "qwen.tiktoken", tiktoken_file(RANKS),
            tokenizer_class="QWenTokenizer", added_tokens_decoder=added,
        )  # fmt: skip


def test_the_models_own_code_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "tokenization_own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    auto = {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}
    config = {"tokenizer_class": "OwnTokenizer", "auto_map": auto}
    for name, content in (
        ("own.tiktoken", tiktoken_file(RANKS)),
        ("vocab.json", json.dumps({"a": 0}).encode()),
    ):
        with pytest.raises(TokenizerMissing):
            converted(tmp_path, name, content, **config)
        (tmp_path / name).unlink()
    assert not marker.exists()
