"""From a model's own tokenizer files to those that gateways load."""

from __future__ import annotations

from pathlib import Path

from sluice_worker.tokenizer_formats import (
    sentencepiece_model,
    tekken,
    tiktoken_ranks,
    vocabulary,
)
from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.errors import REMEDY, TokenizerMissing
from sluice_worker.tokenizer_formats.names import TEKKEN, VOCABULARIES, source_of


def convert(model_dir: Path) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json of a model that has only other formats.

    No code of the model is run. Raises TokenizerMissing if it cannot be done, or not exactly.
    """
    source = source_of([path.name for path in model_dir.iterdir()])
    if source is None:
        raise TokenizerMissing(f"the model has no tokenizer: {REMEDY}")
    path = model_dir / source
    if source in VOCABULARIES:
        return vocabulary.convert(model_dir, source)
    config = TokenizerConfig.read(model_dir)
    if source == TEKKEN:
        converted = tekken.convert(path, config)
    elif tiktoken_ranks.is_tiktoken(path):
        converted = tiktoken_ranks.convert(path, config)
    else:
        converted = sentencepiece_model.convert(path, config)
    return converted.files()
