"""Structured outputs as grammars: compiled once, kept within bounds."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLTokenizer, regex_to_lark

from sluice_worker.engines.base import Constraint, ErrorCode, RequestError, StructuredOutput
from sluice_worker.grammars.compiler import build_tokenizer, compile_grammar, failure
from sluice_worker.grammars.trial import GrammarTrial, TrialFailed

log = logging.getLogger(__name__)

FIELD = "structured_output"
SOURCE_LENGTH = 128 << 10
"""Characters of the longest source; masks of a longer one would slow every row."""

KEPT = 64
KEPT_BYTES = 128 << 20

# What a grammar forces is not forced as the tokenizer would cut it, since that would cut the
# text of a special token into the special token. Any tokens of the right text do.
_HEAD = '%llguidance {"no_forcing": true}\n'
_HEAD_LINES = 1

# Where llguidance says that a grammar is wrong, and why.
_PLACED = re.compile(r"at (\d+)\((\d+)\): (.+)")

# A model that was not trained for it may put spaces without end where JSON allows some. A schema
# that says what it allows itself is left alone: the pattern would overrule what it says.
_WHITESPACE = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}"}


class Grammar:
    """A compiled grammar. ``size`` is about what it takes, in bytes."""

    def __init__(self, tokenizer: LLTokenizer, text: str, size: int) -> None:
        self.tokenizer = tokenizer
        self.size = size + len(text)
        #: As llguidance reads it, in Lark's notation.
        self.text = text
        self._lock = threading.Lock()
        self._first = compile_grammar(tokenizer, text)
        error = failure(self._first)
        if error:
            raise refused(error)

    def matcher(self) -> LLMatcher:
        """A matcher at the beginning. All of a grammar's share what they learn of it."""
        with self._lock:
            return self._first.deep_copy()

    def renewed(self) -> LLMatcher:
        """The same, after what was learnt so far is forgotten: it has a limit."""
        fresh = compile_grammar(self.tokenizer, self.text)
        with self._lock:
            self._first = fresh
            return fresh.deep_copy()


class Grammars:
    """Compiles structured outputs for one tokenizer; those used last are kept.

    What was refused is kept too, so that asking again costs nothing.
    """

    def __init__(self, tokenizer: Path, width: int, eos_ids: Sequence[int]) -> None:
        self.width = width
        self._tokenizer = build_tokenizer(tokenizer, width, list(eos_ids))
        self._trial = GrammarTrial(tokenizer, width, eos_ids)
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._kept: OrderedDict[StructuredOutput, Grammar | RequestError] = OrderedDict()
        self._bytes = 0

    def compiled(self, output: StructuredOutput) -> Grammar:
        """The grammar of ``output``. Blocks while it compiles; raises RequestError."""
        if len(output.source) > SOURCE_LENGTH:
            raise refused(f"it is longer than {SOURCE_LENGTH} characters")
        found = self._find(output)
        if found is None:
            with self._compiling:  # one at a time, whoever asks: cores are for the model
                found = self._find(output) or self._compile(output)
        if isinstance(found, RequestError):
            raise RequestError(found.code, found.message, found.field)
        return found

    def is_special(self, token: int) -> bool:
        """Whether a token is none of text."""
        return token >= self._tokenizer.vocab_size or self._tokenizer.is_special_token(token)

    @classmethod
    def of_model(cls, model_dir: Path, width: int, eos_ids: Sequence[int]) -> Grammars | None:
        """For a model's tokenizer, or None: without a tokenizer or an end there are none."""
        path = model_dir / "tokenizer.json"
        if not path.is_file() or not eos_ids:
            log.info("no structured output: the model has no tokenizer.json or no end of sequence")
            return None
        try:
            return cls(path, width, eos_ids)
        except (ValueError, OSError) as error:
            log.warning("no structured output: llguidance cannot read the tokenizer: %s", error)
            return None

    def close(self) -> None:
        """Compile no more."""
        self._trial.close()

    def _find(self, output: StructuredOutput) -> Grammar | RequestError | None:
        with self._lock:
            found = self._kept.get(output)
            if found is not None:
                self._kept.move_to_end(output)
            return found

    def _compile(self, output: StructuredOutput) -> Grammar | RequestError:
        result: Grammar | RequestError
        try:
            text = _HEAD + _READERS[output.constraint](output.source)
            text.encode()
            verdict = self._trial.verdict(text)
            if verdict.failure:
                raise refused(_as_written(verdict.failure, output.constraint))
            result = Grammar(self._tokenizer, text, verdict.size)
        except TrialFailed:
            result = refused("it takes too much time or memory to compile")
        except RequestError as error:
            result = error
        except (UnicodeEncodeError, RecursionError) as error:
            result = refused("it is nested too deep" if isinstance(error, RecursionError) else
                             "it has characters that are none")  # fmt: skip
        self._keep(output, result)
        return result

    def _keep(self, output: StructuredOutput, result: Grammar | RequestError) -> None:
        with self._lock:
            self._kept[output] = result
            self._bytes += _size(output, result)
            while len(self._kept) > KEPT or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
                old, gone = self._kept.popitem(last=False)
                self._bytes -= _size(old, gone)


def refused(reason: str) -> RequestError:
    """What the client of a structured output that cannot be honoured is told."""
    return RequestError(
        ErrorCode.INVALID_ARGUMENT, f"The structured output cannot be honoured: {reason}", FIELD
    )


def _as_written(failure: str, constraint: Constraint) -> str:
    """The failure with its place in what the client wrote, where that is a grammar."""
    placed = _PLACED.fullmatch(failure)
    if placed is None:
        return failure
    line, column, reason = placed.groups()
    if constraint is not Constraint.GRAMMAR:
        return reason  # the grammar is ours
    return f"line {int(line) - _HEAD_LINES}, column {column}: {reason}"


def _size(output: StructuredOutput, result: Grammar | RequestError) -> int:
    return 4 * len(output.source) + (result.size if isinstance(result, Grammar) else 0)


def _json(source: str) -> Any:
    try:
        return json.loads(source, parse_constant=_no_number)
    except RecursionError:
        raise refused("it is nested too deep") from None
    except ValueError as error:
        raise refused(f"it is not JSON ({error})") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _schema(source: str) -> str:
    schema = _json(source)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise refused("a JSON Schema is an object" if schema is not False else "false allows none")
    given = schema.get("x-guidance")
    options = given if isinstance(given, dict) else {}
    if "whitespace_flexible" not in options:
        options = {**_WHITESPACE, **options}
    return "start: %json " + json.dumps({**schema, "x-guidance": options}, ensure_ascii=False)


def _regex(source: str) -> str:
    return f"start: /{regex_to_lark(source, 'd')}/"  # d: digits are 0 to 9, not all scripts'


def _choices(source: str) -> str:
    choices = _json(source)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise refused("choices are a list of strings")
    if not choices:
        raise refused("there are no choices")
    return "start: " + " | ".join(json.dumps(each, ensure_ascii=False) for each in choices)


def _grammar(source: str) -> str:
    return source


_READERS = {
    Constraint.JSON_SCHEMA: _schema,
    Constraint.REGEX: _regex,
    Constraint.CHOICES: _choices,
    Constraint.GRAMMAR: _grammar,
}
