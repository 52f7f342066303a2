"""sentencepiece's models as tokenizer.json, beside the library itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from sluice_gateway.template import ChatTemplate
from sluice_gateway.tokenizer import Tokenizer
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing
from sluice_worker.tokenizer_formats import probe, sentencepiece_rule
from sluice_worker.tokenizer_formats.sentencepiece_file import with_dummy_prefix

from tests.worker.tokenizers.originals import CHAT_TEMPLATE, CORPUS, train_sentencepiece, write

LLAMA = {"tokenizer_class": "LlamaTokenizer"}


def library(data: bytes) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def converted(folder: Path, data: bytes, **config: Any) -> Tokenizer:
    """The tokenizer as a gateway loads it."""
    files = TokenizerBundle.read(write(folder, "tokenizer.model", data, **config)).files
    return Tokenizer.from_files(files)


def texts(seed: int = 3) -> list[str]:
    """Random text of the corpus's letters, words and spaces."""
    generator = random.Random(seed)
    pools = (list(CORPUS), CORPUS.split(" "), list("  ax\n"), ["你", "ü", "\t", "🙂", " ", "é"])
    return [
        "".join(generator.choices(generator.choice(pools), k=generator.randint(0, 20)))
        for _ in range(2000)
    ]


def uncovered(text: str) -> Callable[[str], str]:
    """Puts the text, with its special tokens' text as text, in the place of the cover."""
    return lambda stretch: stretch.replace("\ue123", text)


@pytest.fixture
def without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece_rule, "find_spec", lambda _: None)


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_bpe_is_encoded_and_decoded_as_by_the_library(
    byte_fallback: bool, prefix: bool, tmp_path: Path
) -> None:
    data = train_sentencepiece(byte_fallback=byte_fallback, add_dummy_prefix=prefix)
    original, tokenizer = library(data), converted(tmp_path, data)
    for text in (*texts(), *probe.TEXTS):
        ids = original.encode(text)
        assert tokenizer.encode_covered("\ue123", uncovered(text)) == ids, text
        if original.unk_id() not in ids:
            assert tokenizer.decode(ids, skip_special_tokens=False) == original.decode(ids), text
        if byte_fallback and "▁" not in text:
            assert tokenizer.decode(ids) == text


def test_spaces_that_the_model_removes_are_removed(tmp_path: Path) -> None:
    data = train_sentencepiece(remove_extra_whitespaces=True)
    original, tokenizer = library(data), converted(tmp_path, data)
    for text in (" a", "a  b ", "   ", "a \n b", "▁ a ▁", " \n ", "a\n\nb  ", *texts()):
        assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text), text


@pytest.mark.parametrize("trims", [True, False])
def test_the_rule_is_the_librarys(trims: bool, without_the_library: None) -> None:
    data = train_sentencepiece(remove_extra_whitespaces=trims)
    model = sentencepiece_rule.SentencePieceModel.parse(data)
    for prefix in (True, False):
        rule = sentencepiece_rule.original_of(data, model, prefix=prefix)
        original = library(with_dummy_prefix(data, prefix))
        assert rule is not None
        for text in (*texts(), *probe.TEXTS):
            ids = original.encode(text)
            assert rule.encode(text) == ids, text
            assert rule.decode(ids) in {None, original.decode(ids)}, text


def test_bpe_needs_no_library(tmp_path: Path, without_the_library: None) -> None:
    data = train_sentencepiece()
    tokenizer = converted(tmp_path, data)
    assert tokenizer.encode("a quick dog", add_special_tokens=False) == library(data).encode(
        "a quick dog"
    )


def test_runs_of_spaces_that_share_a_score_grow_from_the_left(tmp_path: Path) -> None:
    """As in Llama's and Mistral's own models."""
    data = train_sentencepiece()
    model = sentencepiece_model_pb2.ModelProto.FromString(data)
    for length in (2, 3, 4, 5, 6, 7, 9):
        spaces = "▁" * length
        known = [piece for piece in model.pieces if piece.piece == spaces]
        piece = known[0] if known else model.pieces.add(piece=spaces)
        piece.score = -1e9
    data = model.SerializeToString()
    original, tokenizer = library(data), converted(tmp_path, data)
    for length in range(60):
        for text in (" " * length, f"a{' ' * length}b"):
            assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text)


def with_added_tokens(folder: Path, **config: Any) -> tuple[Tokenizer, Any, int]:
    """A tokenizer with a token added after the pieces, sentencepiece's, and the token's id."""
    data = train_sentencepiece()
    original = library(data)
    place = original.get_piece_size()
    token = {"content": "<|end|>", "special": True, "rstrip": False, "normalized": True}
    added = {str(place): token, "1": {"content": "<s>", "special": True}}
    config = {**LLAMA, "added_tokens_decoder": added, "eos_token": "<|end|>", **config}
    return converted(folder, data, **config), original, place


def test_a_stretch_between_special_tokens_begins_with_a_space_in_older_models(
    tmp_path: Path,
) -> None:
    tokenizer, original, end = with_added_tokens(tmp_path)
    ids = tokenizer.encode("the dog<|end|>the fox")
    assert ids == [1, *original.encode("the dog"), end, *original.encode("the fox")]
    assert tokenizer.special.eos == "<|end|>"
    assert tokenizer.special.bos == "<s>"
    assert end in tokenizer.special.ids


def test_only_the_text_begins_with_a_space_where_the_config_says_so(tmp_path: Path) -> None:
    tokenizer, original, end = with_added_tokens(tmp_path, legacy=False, add_bos_token=False)
    bare = library(with_dummy_prefix(original.serialized_model_proto(), False))
    assert tokenizer.encode("the dog<|end|>the fox") == [
        *original.encode("the dog"), end, *bare.encode("the fox"),
    ]  # fmt: skip
    assert tokenizer.encode("<|end|>the fox") == [end, *bare.encode("the fox")]
    assert tokenizer.encode("  the fox") == original.encode("  the fox")
    assert tokenizer.encode_covered("<|end|>\ue123", uncovered("the")) == [end, *bare.encode("the")]


def test_the_files_of_older_models_say_the_same(tmp_path: Path) -> None:
    data = train_sentencepiece()
    place = library(data).get_piece_size()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|end|>": place, "word": place + 1}))
    named = {"eos_token": {"content": "<|end|>", "lstrip": False}, "pad_token": "<pad>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    tokenizer = converted(tmp_path, data, **LLAMA)
    assert tokenizer.special.eos == "<|end|>"
    assert place in tokenizer.special.ids
    assert place + 1 not in tokenizer.special.ids
    assert tokenizer.encode("word<|end|>") == [1, place + 1, place]


def test_control_pieces_are_special_tokens_and_their_text_can_stay_text(tmp_path: Path) -> None:
    data = train_sentencepiece(control_symbols="[INST],[/INST]")
    original, tokenizer = library(data), converted(tmp_path, data)
    inst = original.piece_to_id("[INST]")
    assert tokenizer.encode("[INST]") == [1, inst]
    assert tokenizer.encode_covered("\ue123", uncovered("[INST]")) == original.encode("[INST]")
    assert tokenizer.decode([inst]) == ""


def test_the_models_own_symbols_are_kept_whole(tmp_path: Path) -> None:
    data = train_sentencepiece(user_defined_symbols="<table>,\n\n,▁▁▁", add_dummy_prefix=False)
    original, tokenizer = library(data), converted(tmp_path, data)
    for text in ("<table>a\n\n\nb", "   <table><table>    a", *texts()):
        assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text), text


def test_symbols_that_the_config_lists_are_what_it_says(tmp_path: Path) -> None:
    """As in Gemma's: turns are special tokens there, and tags of HTML are text."""
    data = train_sentencepiece(user_defined_symbols="<turn>,<b>,▁▁", add_dummy_prefix=False)
    original = library(data)
    turn, bold, spaces = (original.piece_to_id(text) for text in ("<turn>", "<b>", "▁▁"))
    added = {
        str(turn): {"content": "<turn>", "special": True},
        str(bold): {"content": "<b>", "special": False},
        str(spaces): {"content": "▁▁", "special": False},
    }
    config = {"tokenizer_class": "GemmaTokenizer", "added_tokens_decoder": added}
    tokenizer = converted(tmp_path, data, **config)
    text = "<turn>a   b<b>"
    assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text)
    assert turn in tokenizer.special.ids
    assert tokenizer.decode(tokenizer.encode(text)) == "a   b<b>"


@pytest.mark.parametrize("where", ["tokenizer_config.json", "jinja", "json", "nowhere"])
def test_the_chat_template_is_kept_wherever_it_is(where: str, tmp_path: Path) -> None:
    config: dict[str, Any] = dict(LLAMA)
    if where == "tokenizer_config.json":
        config["chat_template"] = CHAT_TEMPLATE
    elif where == "jinja":
        (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    elif where == "json":
        described = json.dumps({"chat_template": CHAT_TEMPLATE})
        (tmp_path / "chat_template.json").write_text(described)
    write(tmp_path, "tokenizer.model", train_sentencepiece(), **config)
    template = ChatTemplate.from_files(TokenizerBundle.read(tmp_path).files)
    messages = [{"role": "user", "content": "hi"}]
    if where == "nowhere":
        with pytest.raises(Exception, match="no chat template"):
            template.render(messages)
    else:
        assert template.render(messages) == "<s>hi"


def test_the_same_model_has_the_same_hash(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.model", train_sentencepiece(), **LLAMA)
    assert TokenizerBundle.read(tmp_path).hash == TokenizerBundle.read(tmp_path).hash


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "char", "byte_fallback": False}, "words or characters"),
        ({"model_type": "unigram"}, "it is Unigram"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalizes texts by a table"),
        ({"treat_whitespace_as_suffix": True}, "writes spaces"),
        ({"user_defined_symbols": "<table>"}, "symbols of its own"),
    ],
)
def test_what_would_not_be_exact_is_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TokenizerMissing, match=rf"{reason}.*add a tokenizer\.json") as caught:
        converted(tmp_path, train_sentencepiece(**options))
    assert str(tmp_path) not in str(caught.value)


def test_pieces_of_several_letters_that_share_a_score_are_refused(tmp_path: Path) -> None:
    model = sentencepiece_model_pb2.ModelProto.FromString(train_sentencepiece())
    normal = [piece for piece in model.pieces if piece.type == 1 and len(piece.piece) > 2]
    normal[0].score = normal[1].score
    with pytest.raises(TokenizerMissing, match="share a score"):
        converted(tmp_path, model.SerializeToString())


def test_the_authors_own_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerMissing, match="InternLM2Tokenizer does more"):
        converted(tmp_path, train_sentencepiece(), tokenizer_class="InternLM2Tokenizer")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TokenizerMissing, match=r"tokenizer\.model cannot be made one: it is neither"
    ):
        converted(tmp_path, train_sentencepiece()[:1000])
    write(tmp_path, "tokenizer.model", train_sentencepiece())
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerMissing, match=r"tokenizer_config\.json is damaged"):
        TokenizerBundle.read(tmp_path)


def test_a_special_token_without_an_id_is_named(tmp_path: Path) -> None:
    config = {**LLAMA, "additional_special_tokens": ["<|lost|>"]}
    with pytest.raises(TokenizerMissing, match=r"no id to the special token '<\|lost\|>'"):
        converted(tmp_path, train_sentencepiece(), **config)


@pytest.mark.parametrize(("content", "place"), [("the", 499), ("<|new|>", 300)])
def test_an_added_token_cannot_take_the_place_of_a_piece(
    content: str, place: int, tmp_path: Path
) -> None:
    added = {str(place): {"content": content, "special": True}}
    with pytest.raises(TokenizerMissing, match=r"added token '.*' (is|has the id of)"):
        converted(tmp_path, train_sentencepiece(), **LLAMA, added_tokens_decoder=added)


def test_an_added_token_can_take_the_place_of_a_control_piece(tmp_path: Path) -> None:
    data = train_sentencepiece(control_symbols="<reserved_0>")
    place = library(data).piece_to_id("<reserved_0>")
    added = {str(place): {"content": "<|end|>", "special": True}}
    tokenizer = converted(tmp_path, data, **LLAMA, added_tokens_decoder=added)
    assert tokenizer.encode("<|end|>") == [1, place]
