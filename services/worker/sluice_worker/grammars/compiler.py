"""Compiles grammars with llguidance; run as a program, tries them out for another process.

A compilation cannot be interrupted, and llguidance's own limits do not bound all of them:
three hundred patterns that must all match keep it busy for minutes. So a grammar is tried in
a process that may die of it (``trial.py``) before it is compiled in the worker's own.
The program imports nothing of the worker, so that it starts at once.
"""

from __future__ import annotations

import json
import random
import re
import resource
import sys
import time
from pathlib import Path

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MEMORY = 512 << 20
"""Bytes that a trial may take beside what the program takes by itself."""

CPU_SECONDS = 3
"""Processor time of a trial; the next whole second after it kills the program."""

_WALK = 24
_WALK_MEMORY = 64 << 20
_MASK_SECONDS = 0.3  # llguidance's limits allow some tens of milliseconds
_MESSAGE = 300
_LISTING = re.compile(r"\s*\d+ \| ")  # lines of the grammar, which is not what the client wrote
_LIMITS = LLParserLimits(max_lexer_states=10_000, max_grammar_size=100_000, verbose_errors=False)
# A state takes 1 to 2 kB. Usual schemas need fewer than 1,000 of them.


def build_tokenizer(path: Path, width: int, eos_ids: list[int]) -> LLTokenizer:
    """The tokenizer of ``path`` for logits of ``width``. Raises ValueError if there is none."""
    text = path.read_text(encoding="utf-8")
    try:
        return LLTokenizer(text, n_vocab=width, eos_token=eos_ids)
    except ValueError as error:
        if "too small" not in str(error):
            raise
        return LLTokenizer(text, eos_token=eos_ids)  # tokens that the model does not have


def compile_grammar(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher at the beginning of ``grammar``. Never raises: ask ``failure``."""
    return LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)


def failure(matcher: LLMatcher) -> str:
    """Why a matcher can go on no more, in one line, or nothing."""
    if not matcher.is_error():
        return ""
    lines = matcher.get_error().replace("<non-verbose/>", "").splitlines()
    listing = next((i for i, line in enumerate(lines) if _LISTING.match(line)), len(lines))
    text = " ".join(" ".join(lines[:listing]).split())
    if text.startswith("NoExtension"):
        return "no text can satisfy it"
    return text[:_MESSAGE] or "unknown error"


def try_grammar(tokenizer: LLTokenizer, grammar: str) -> tuple[str, int]:
    """Compile, and walk on for a few random tokens: why that fails, and bytes that it takes.

    The walk finds what compiles but cannot be followed, such as thousands of optional properties.
    """
    before = _resident()
    matcher = compile_grammar(tokenizer, grammar)
    slowest = _walk(matcher, set(tokenizer.eos_tokens))
    taken = max(0, _resident() - before)
    if slowest > _MASK_SECONDS:
        return "it takes too long to follow", taken
    if taken > _WALK_MEMORY:
        return "it takes too much memory to follow", taken
    return failure(matcher), taken


def _walk(matcher: LLMatcher, ends: set[int]) -> float:
    """Go on with random tokens. The processor time of the slowest mask."""
    chance = random.Random(0)
    slowest = 0.0
    for _ in range(_WALK):
        if matcher.is_error() or slowest > _MASK_SECONDS:
            break
        begin = time.process_time()
        mask = matcher.compute_bitmask()
        slowest = max(slowest, time.process_time() - begin)
        token = _pick(mask, ends, chance)
        if token is None or matcher.is_error():
            break
        matcher.consume_token(token)
    return slowest


def _pick(mask: bytes, ends: set[int], chance: random.Random) -> int | None:
    """One of the tokens that a mask allows, or None if all of them end the text."""
    filled = [at for at, byte in enumerate(mask) if byte]
    chance.shuffle(filled)
    for at in filled:
        ids = [at * 8 + bit for bit in range(8) if mask[at] >> bit & 1]
        ids = [token for token in ids if token not in ends]
        if ids:
            return chance.choice(ids)
    return None


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _reserved() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(kind, (value, hard))


def main() -> None:
    """Answer each line of input, a grammar as JSON, with a line: [failure, bytes]."""
    path, width, *eos_ids = sys.argv[1:]
    tokenizer = build_tokenizer(Path(path), int(width), [int(token) for token in eos_ids])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _reserved() + MEMORY)
    for line in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + CPU_SECONDS)
        answer = try_grammar(tokenizer, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
