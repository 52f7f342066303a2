"""sentencepiece's tokenizer.model as tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sluice_worker.tokenizer_formats import probe
from sluice_worker.tokenizer_formats.assembly import Converted
from sluice_worker.tokenizer_formats.config import TokenizerConfig
from sluice_worker.tokenizer_formats.errors import not_convertible
from sluice_worker.tokenizer_formats.merges import competing, merges_of
from sluice_worker.tokenizer_formats.sentencepiece_file import (
    PieceType,
    SentencePieceModel,
)
from sluice_worker.tokenizer_formats.sentencepiece_refusals import ties, why_not
from sluice_worker.tokenizer_formats.sentencepiece_rule import SPACE, original_of

#: More spaces than a text begins with.
_ALL = 1 << 16


def convert(path: Path, config: TokenizerConfig) -> Converted:
    """Convert the file. Raises TokenizerMissing."""
    data = path.read_bytes()
    try:
        model = SentencePieceModel.parse(data)
    except ValueError as error:
        raise not_convertible(
            path.name, f"it is neither sentencepiece's nor tiktoken's ({error})"
        ) from error
    # Before 4.31, transformers gave every stretch between two special tokens a space of its own,
    # and models that say nothing of it are from then: their config is what they were trained with.
    legacy = config.flag("legacy", default=True)
    reason = why_not(model, config, legacy=legacy)
    if reason:
        raise not_convertible(path.name, reason)
    prefix = model.add_dummy_prefix if legacy else config.flag("add_prefix_space", default=True)
    original = original_of(data, model, prefix=prefix)
    added = _added(model, config)
    tokenizer = _tokenizer(model, added, prefix=prefix, legacy=legacy)
    names = _names(model)
    return Converted(
        path.name,
        tokenizer,
        original,
        added,
        names,
        _probes(model, added),
        _flagged(config, names, "bos_token", default=True),
        _flagged(config, names, "eos_token", default=False),
        config=config,
    )


def _names(model: SentencePieceModel) -> dict[str, str | None]:
    control = {piece.text for piece in model.of_type(PieceType.CONTROL).values()}
    unknown = next(iter(model.of_type(PieceType.UNKNOWN).values()))
    return {
        "bos_token": model.bos if model.bos in control else None,
        "eos_token": model.eos if model.eos in control else None,
        "unk_token": unknown.text,
    }


def _flagged(
    config: TokenizerConfig, names: Mapping[str, str | None], name: str, *, default: bool
) -> list[str]:
    """The token, if the config wants it around every text."""
    text = config.content(name) if name in config.values else names[name]
    return [text] if text and config.flag(f"add_{name}", default=default) else []


def _added(model: SentencePieceModel, config: TokenizerConfig) -> dict[int, AddedToken]:
    added = dict(config.added)
    for place, piece in enumerate(model.pieces):
        given = added.get(place)
        if piece.type in {PieceType.CONTROL, PieceType.UNKNOWN}:
            added[place] = given or AddedToken(piece.text, special=True, normalized=False)
        elif piece.type == PieceType.USER_DEFINED and not (given and given.special):
            # sentencepiece looks for it in the text with its spaces replaced.
            text = given.content if given else piece.text
            added[place] = AddedToken(text, special=False, normalized=True)
    return added


def _tokenizer(
    model: SentencePieceModel, added: Mapping[int, AddedToken], *, prefix: bool, legacy: bool
) -> Tokenizer:
    tokenizer = Tokenizer(_bpe(model, added))
    steps = list(_normalizers(model))
    if prefix and legacy:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    if prefix and not legacy:
        tokenizer.pre_tokenizer = _prefix_of_text()
    decoding: list[Any] = [
        decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
    ]  # fmt: skip
    if prefix or model.remove_extra_whitespaces:
        spaces = _ALL if model.remove_extra_whitespaces else 1
        decoding.append(decoders.Strip(" ", spaces, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    return tokenizer


def _normalizers(model: SentencePieceModel) -> Iterator[Any]:
    if model.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(r"\A +"), "")
        yield normalizers.Replace(Regex(rf"[ {SPACE}]+\z"), "")
        yield normalizers.Replace(Regex(" {2,}"), " ")


def _prefix_of_text() -> Any:
    """A space before the text, and none before what follows a special token.

    Metaspace leaves its space out where the text has one already, which sentencepiece does not.
    The first one here looks for a space that the normalizer has replaced everywhere, so it always
    writes one; the second replaces that as well.
    """
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(" ", prepend_scheme="first", split=False),
            pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=False),
        ]
    )


def _contents(model: SentencePieceModel, added: Mapping[int, AddedToken]) -> dict[int, str]:
    """The text of each id; an added token may have taken a placeholder's."""
    contents = {place: piece.text for place, piece in enumerate(model.pieces)}
    return contents | {token_id: str(token.content) for token_id, token in added.items()}


def _bpe(model: SentencePieceModel, added: Mapping[int, AddedToken]) -> Any:
    rank = {piece.text: -piece.score for piece in model.of_type(PieceType.NORMAL).values()}
    contents = _contents(model, added)
    unknown = contents[next(iter(model.of_type(PieceType.UNKNOWN)))]
    return models.BPE(
        {text: token_id for token_id, text in contents.items()},
        merges_of(rank),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _probes(model: SentencePieceModel, added: Mapping[int, AddedToken]) -> Iterator[str]:
    yield from probe.TEXTS
    pieces = [piece.text for piece in model.of_type(PieceType.NORMAL).values()]
    yield from probe.of_vocabulary([text.replace(SPACE, " ") for text in pieces])
    yield from competing(pieces)
    yield from _runs(ties(model))
    for place in model.of_type(PieceType.USER_DEFINED):
        if not added[place].special:
            text = added[place].content
            yield from (text, f"a{text}b", f" {text} {text * 3}")


def _runs(tied: list[list[str]]) -> Iterator[str]:
    for runs in tied:
        letter = runs[0][0].replace(SPACE, " ")
        for length in range(1, 3 * max(map(len, runs)) + 2):
            yield from (letter * length, f"a{letter * length}b")
