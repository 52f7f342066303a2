"""Mistral's real files, which its own package brings along: only where that is installed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from sluice_gateway.tokenizer import Tokenizer
from sluice_worker.tokenizer_bundle import TokenizerBundle
from sluice_worker.tokenizer_formats import probe

mistral_common = pytest.importorskip("mistral_common")
DATA = Path(str(mistral_common.__file__)).parent / "data"


def converted(folder: Path, file: str, name: str) -> Tokenizer:
    shutil.copy(DATA / file, folder / name)
    return Tokenizer.from_files(TokenizerBundle.read(folder).files)


def texts(words: list[str]) -> list[str]:
    generator = random.Random(11)
    pools = (words, list("ab "), list(" \n\t1a"), list("-=*' "))
    made = ["".join(generator.choices(generator.choice(pools), k=20)) for _ in range(5000)]
    return [*made, *probe.TEXTS]


@pytest.mark.parametrize("file", ["tekken_240718.json", "tekken_240911.json"])
def test_tekken_is_encoded_and_decoded_as_by_mistral_common(file: str, tmp_path: Path) -> None:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    original = Tekkenizer.from_file(DATA / file)
    tokenizer = converted(tmp_path, file, "tekken.json")
    assert tokenizer.size == original.n_words
    for text in texts([original.decode([token_id]) for token_id in range(1000, 60_000, 7)]):
        ids = tokenizer.encode_covered("\ue123", lambda c, t=text: c.replace("\ue123", t))
        assert ids == original.encode(text, bos=False, eos=False), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.encode("[INST]") == [original.bos_id, original.get_special_token("[INST]")]


@pytest.mark.parametrize(
    "file", ["tokenizer.model.v1", "mistral_instruct_tokenizer_240216.model.v2"]
)
def test_sentencepiece_is_encoded_and_decoded_as_by_the_library(file: str, tmp_path: Path) -> None:
    import sentencepiece

    original = sentencepiece.SentencePieceProcessor(model_file=str(DATA / file))
    tokenizer = converted(tmp_path, file, "tokenizer.model")
    pieces = [original.id_to_piece(place).replace("▁", " ") for place in range(1100, 30_000, 7)]
    for text in texts(pieces):
        ids = tokenizer.encode_covered("\ue123", lambda c, t=text: c.replace("\ue123", t))
        assert ids == original.encode(text), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == original.decode(ids)
