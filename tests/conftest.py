"""What all tests share: a small tokenizer, a small model, and a watch on all streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.stream_watch import StreamWatch

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. "


def make_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer of about 300 tokens; the same each time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([TEXT] * 50, trainer)
    return tokenizer


def write_fake_model(folder: Path) -> Path:
    """A directory with all that the fake engine and a gateway need of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer_config = {"eos_token": "<|im_end|>", "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def fake_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As write_fake_model makes it, once per test process."""
    return write_fake_model(tmp_path_factory.mktemp("models") / "fake-model")


@pytest.fixture(scope="session", autouse=True)
def stream_watch() -> Iterator[StreamWatch]:
    """Looks at every stream of every test in this process."""
    watch = StreamWatch()
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        yield watch


@pytest.fixture(autouse=True)
def every_stream_is_as_clients_expect_it(stream_watch: StreamWatch) -> Iterator[None]:
    """Fail the test whose streams break a rule."""
    yield
    faults = stream_watch.take()
    assert not faults, "\n".join(faults)
