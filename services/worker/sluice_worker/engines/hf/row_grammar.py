"""One row's way through its grammar."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from llguidance import LLMatcher

from sluice_worker.engines.base import ErrorCode, RequestError
from sluice_worker.engines.hf.mask_workers import GivenUp, Job, MaskWorkers
from sluice_worker.grammars.compiler import failure
from sluice_worker.grammars.store import FIELD, Grammar

log = logging.getLogger(__name__)


class _Mismatch(Exception):
    """The row's tokens are not what the grammar allows."""


class _Stuck(Exception):
    """The matcher can go on no more."""


class RowGrammar:
    """Masks for a row's next tokens, each computed as soon as the token before is known.

    ``generated`` are tokens that the row has already. ``ends`` are stop ids that are none of
    text: allowed where the end of the sequence is. ``width`` is that of the logits.
    """

    def __init__(
        self,
        grammar: Grammar,
        workers: MaskWorkers,
        generated: Sequence[int],
        ends: Sequence[int],
        width: int,
    ) -> None:
        self._grammar = grammar
        self._workers = workers
        self._tokens = list(generated)
        self._resumed = len(self._tokens)
        self._ends = list(ends)
        self._width = width
        self._matcher: LLMatcher | None = None
        self._consumed = 0
        self._job: Job[np.ndarray] | None = None

    def begin(self) -> None:
        """Have the next mask computed. Not earlier than needed: it holds memory."""
        if self._job is None:
            self._job = self._workers.begin(self._compute)

    def advance(self, token: int) -> None:
        """The row goes on with ``token``."""
        self._tokens.append(token)
        self._job = self._workers.begin(self._compute)

    def forbidden(self) -> torch.Tensor:
        """Which tokens may not come next, [width]. Waits; raises RequestError."""
        self.begin()
        assert self._job is not None
        try:
            return torch.from_numpy(self._job.wait(self._workers))
        except GivenUp:
            raise _too_complex("it takes too long") from None
        except _Mismatch:
            raise self._mismatch() from None
        except _Stuck as stuck:
            raise _too_complex(str(stuck)) from None

    def _compute(self) -> np.ndarray:
        """The mask after all tokens. Tries again from the start if what is shared is worn."""
        try:
            if self._matcher is None:
                self._matcher = self._grammar.matcher()
            return self._mask(self._matcher)
        except (_Mismatch, _Stuck):
            self._matcher, self._consumed = self._grammar.renewed(), 0
            return self._mask(self._matcher)

    def _mask(self, matcher: LLMatcher) -> np.ndarray:
        new = self._tokens[self._consumed :]
        if new and not matcher.consume_tokens(new):
            raise _Mismatch
        self._consumed += len(new)
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        error = failure(matcher)
        if error:
            raise _Stuck(error)
        forbidden = np.ones(self._width, np.bool_)
        bits = np.unpackbits(mask, bitorder="little")[: self._width]
        np.equal(bits, 0, out=forbidden[: len(bits)])
        if self._ends and matcher.is_accepting():
            forbidden[self._ends] = False
        if forbidden.all():
            raise _Stuck("no token can come next")
        return forbidden

    def _mismatch(self) -> RequestError:
        if len(self._tokens) > self._resumed:
            log.error("a drawn token is not what the grammar allowed")
            return RequestError(ErrorCode.INTERNAL, "The structured output failed on this row.")
        return RequestError(
            ErrorCode.INVALID_ARGUMENT,
            "generated_ids are not what the structured output allows.",
            "rows.generated_ids",
        )


def _too_complex(reason: str) -> RequestError:
    return RequestError(
        ErrorCode.INVALID_ARGUMENT,
        f"The structured output is too complex to go on with: {reason}",
        FIELD,
    )
