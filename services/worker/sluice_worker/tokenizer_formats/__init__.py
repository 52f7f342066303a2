"""Tokenizers in other formats than tokenizer.json: converted where that is exact."""

from sluice_worker.tokenizer_formats.conversion import convert
from sluice_worker.tokenizer_formats.errors import TokenizerMissing
from sluice_worker.tokenizer_formats.names import source_of

__all__ = ["TokenizerMissing", "convert", "source_of"]
