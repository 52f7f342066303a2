"""The sentencepiece models that tokenizer.json cannot say exactly."""

from __future__ import annotations

from collections import defaultdict

from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.sentencepiece_file import (
    ModelType,
    PieceType,
    SentencePieceModel,
)

#: Classes that hand a text to sentencepiece as it is; the empty one is none at all.
_PLAIN_CLASSES = frozenset(
    ("", "LlamaTokenizer", "GemmaTokenizer", "PreTrainedTokenizer", "TokenizersBackend")
)


def why_not(model: SentencePieceModel, config: TokenizerConfig, *, legacy: bool) -> str | None:
    """Why the model cannot be converted, or None if it can be tried."""
    if config.tokenizer_class not in _PLAIN_CLASSES:
        return (
            f"its {config.tokenizer_class} does more with a text than sentencepiece, in code that "
            "is not run here"
        )
    return _of_model(model) or _of_pieces(model) or _of_config(model, config, legacy=legacy)


def ties(model: SentencePieceModel) -> list[list[str]]:
    """The pieces of several letters that share a score, score by score.

    Llama's and Mistral's runs of spaces do. The leftmost is made first, and grows: in a run of
    one letter that is the same as the longest left part first, which a merge list can say.
    """
    by_score = defaultdict(list)
    for piece in model.of_type(PieceType.NORMAL).values():
        if len(piece.text) > 1:
            by_score[piece.score].append(piece.text)
    return [tied for tied in by_score.values() if len(tied) > 1]


def _of_model(model: SentencePieceModel) -> str | None:
    if model.type == ModelType.UNIGRAM:
        # Seen in runs of one letter, where many ways to cut have the same score but for rounding.
        return "it is Unigram, whose scores sentencepiece and tokenizer.json round differently"
    if model.type != ModelType.BPE:
        return "it cuts texts into words or characters, not by BPE"
    if model.charsmap:
        # tokenizers applies the table to one grapheme at a time, sentencepiece to the whole text.
        return "it normalizes texts by a table, which tokenizer.json applies in another way"
    if model.whitespace_as_suffix or not model.escape_whitespaces:
        return "it writes spaces in a way that tokenizer.json does not know"
    symbols = model.of_type(PieceType.USER_DEFINED)
    if symbols and (model.add_dummy_prefix or model.remove_extra_whitespaces):
        return "it has symbols of its own, and changes the spaces around them"
    if model.of_type(PieceType.UNUSED):
        return "it has pieces that are switched off"
    if len(model.of_type(PieceType.UNKNOWN)) != 1:
        return "it has not exactly one piece for the unknown"
    if len({piece.text for piece in model.pieces}) != len(model.pieces):
        return "it has a piece twice"
    return None


def _of_pieces(model: SentencePieceModel) -> str | None:
    normal = model.of_type(PieceType.NORMAL).values()
    if model.byte_fallback:
        spelled = {piece.text for piece in model.of_type(PieceType.BYTE).values()}
        if spelled != {f"<0x{byte:02X}>" for byte in range(256)}:
            return "a byte has no piece"
    elif any(len(piece.text) == 6 and piece.text.startswith("<0x") for piece in normal):
        return "it has pieces that look like bytes"
    if any(len(set("".join(tied))) > 1 for tied in ties(model)):
        return "pieces share a score, so that their place in the text decides which is made first"
    texts = {piece.text for piece in normal}
    if any(char not in texts for text in texts for char in text):
        return "a piece has a character that is no piece"
    return None


def _of_config(model: SentencePieceModel, config: TokenizerConfig, *, legacy: bool) -> str | None:
    if not legacy and model.remove_extra_whitespaces:
        return "its config wants legacy: false, and the model removes spaces"
    ids = {piece.text: place for place, piece in enumerate(model.pieces)}
    for token_id, token in config.added.items():
        if ids.get(token.content, token_id) != token_id:
            return f"the added token {token.content!r} is a piece with another id"
        piece = model.pieces[token_id] if token_id < len(model.pieces) else None
        taken = piece and piece.type in {PieceType.NORMAL, PieceType.BYTE}
        if piece and taken and piece.text != token.content:
            return f"the added token {token.content!r} has the id of the piece {piece.text!r}"
    return None
