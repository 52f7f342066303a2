"""What the choices of a request have in common on their way from token ids to text."""

from __future__ import annotations

from sluice_gateway.form import AnswerForm
from sluice_gateway.model import ServedModel
from sluice_gateway.output.answering import AnsweringMachine
from sluice_gateway.output.formats import AnswerMachine
from sluice_gateway.output.machine import Options, OutputMachine
from sluice_gateway.output.silent import SilentMachine
from sluice_gateway.output.stop import StopFilter, StopStrings
from sluice_gateway.schema.sampling import SamplingRequest


class OutputSpec:
    """What all choices of a request have in common: made once, then ``machine()`` per choice."""

    __slots__ = (
        "form",
        "hidden_ids",
        "include_stop",
        "min_tokens",
        "model",
        "silent",
        "skip_special",
        "stop_ids",
        "stops",
        "token_ids",
    )

    def __init__(self, request: SamplingRequest, model: ServedModel, form: AnswerForm) -> None:
        self.model = model
        self.form = form
        self.include_stop = bool(request.include_stop_str_in_output)
        asked = frozenset(request.stop_token_ids or ())
        self.stop_ids = asked if request.ignore_eos else asked | model.eos_token_ids
        self.hidden_ids = self.stop_ids - asked if self.include_stop else self.stop_ids
        self.skip_special = request.skip_special_tokens is not False
        self.stops = StopStrings(request.stop) if request.stop else None
        self.min_tokens = request.min_tokens or 0
        self.silent = request.token_limit == 0
        self.token_ids = bool(request.return_token_ids)

    def machine(self) -> OutputMachine:
        """A machine for one choice."""
        model, form = self.model, self.form
        shown = frozenset[int]() if form.formats is None else model.mark_ids
        detokenizer = model.tokenizer.detokenizer(
            skip_special_tokens=self.skip_special, shown=shown
        )
        stops = StopFilter(self.stops, include=self.include_stop) if self.stops else None
        options: Options = {
            "stop_ids": self.stop_ids,
            "hidden_ids": self.hidden_ids,
            "stops": stops,
            "min_tokens": self.min_tokens,
            "token_ids": self.token_ids,
        }
        if self.silent:
            return SilentMachine(detokenizer, model.tokenizer, **options)
        if form.formats is None:
            return OutputMachine(detokenizer, model.tokenizer, **options)
        answer = AnswerMachine(form.formats, tools=form.tools, opening=form.opening)
        return AnsweringMachine(
            detokenizer, model.tokenizer, answer, names_tool=form.names_tool, **options
        )
