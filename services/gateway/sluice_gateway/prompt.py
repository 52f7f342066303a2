"""From a validated request to the token ids of its prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sluice_gateway.bad_words import bad_word_ids
from sluice_gateway.echo import ECHOED_TOKENS_MAX, id_offsets, text_offsets
from sluice_gateway.errors import ContextLengthExceeded, InvalidRequest
from sluice_gateway.form import PLAIN, AnswerForm, chat_form, completion_form
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import Opening
from sluice_gateway.rendering import Rendered, Renderer
from sluice_gateway.schema.chat import ChatRequest, Conversation
from sluice_gateway.schema.completions import DEFAULT_MAX_TOKENS, CompletionRequest
from sluice_gateway.schema.sampling import SamplingRequest
from sluice_gateway.schema.tokenize import (
    TOKENIZE_CHARACTERS_MAX,
    DetokenizeRequest,
    TokenizeRequest,
)

# No prompt is refused for its characters that has no more than these.
CHARACTERS_MIN = 8192
# Characters that a token of a prompt may stand for on average, where the vocabulary has tokens
# that are longer (of spaces, mostly). Text in any language has fewer than 10.
CHARACTERS_PER_TOKEN = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that fits the model.

    ``ids``: at least one, each below the model's vocabulary size. ``max_tokens``: the most that
    may be generated, at least 1; both together are within the context. ``text``: what ``echo``
    gives back, empty if it was not asked for. ``form``: what its answers may be. ``bad_words``: the
    ids of what may not be in them. ``offsets``: where the text of each of ``ids`` begins in
    ``text``, if the log-probabilities of the prompt were asked for.
    """

    ids: list[int]
    max_tokens: int
    text: str = ""
    form: AnswerForm = PLAIN
    bad_words: tuple[tuple[int, ...], ...] = ()
    offsets: Sequence[int] = ()


class PromptBuilder:
    """Builds prompts for one model. Does no I/O, but may compute for long: call it in a thread."""

    def __init__(
        self, model: ServedModel, *, template_variables: frozenset[str] = frozenset()
    ) -> None:
        """``template_variables``: the names that clients may set by chat_template_kwargs."""
        self._model = model
        self._renderer = Renderer(model, template_variables)
        per_token = min(CHARACTERS_PER_TOKEN, model.tokenizer.longest_token)
        self._characters_max = max(CHARACTERS_MIN, model.max_model_len * per_token)

    def chat(self, request: ChatRequest) -> Prompt:
        """The prompt of a conversation.

        Raises InvalidRequest, ContextLengthExceeded among them; so do all methods.
        """
        self._check_token_ids(request)
        self._check_tools(request)
        rendered = self._rendered(request)
        ids = self._conversation_ids(rendered)
        limit = self._limit(len(ids), request, request.token_limit, "messages")
        form = chat_form(request, self._model, self._opening(request, rendered.text))
        words = bad_word_ids(request.bad_words, self._model)
        return Prompt(self._checked(ids, "messages"), limit, form=form, bad_words=words)

    def completions(self, request: CompletionRequest) -> list[Prompt]:
        """The prompts of a completion request, in order."""
        self._check_token_ids(request)
        several = len(request.prompts) > 1
        form = completion_form(request, self._model)
        words = bad_word_ids(request.bad_words, self._model)
        prompts = [
            self._completion(request, prompt, f"prompt[{place}]" if several else "prompt")
            for place, prompt in enumerate(request.prompts)
        ]
        _check_echoed(request, prompts)
        return [replace(prompt, form=form, bad_words=words) for prompt in prompts]

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """The ids of a text, as /v1/completions would take it, or of a conversation."""
        special = request.add_special_tokens
        if request.prompt is None:
            rendered = self._rendered(request, generates=False)
            return self._conversation_ids(rendered, special=special is True)
        return self._model.tokenizer.encode(request.prompt, add_special_tokens=special is not False)

    def detokenize(self, request: DetokenizeRequest) -> str:
        """The ids' text, special tokens included."""
        if request.tokens:
            self._checked(request.tokens, "tokens")
        return self._model.tokenizer.decode(request.tokens, skip_special_tokens=False)

    def _completion(
        self, request: CompletionRequest, prompt: str | list[int], param: str
    ) -> Prompt:
        tokenizer = self._model.tokenizer
        if isinstance(prompt, str):
            self._check_characters(len(prompt), param)
            self._check_least(prompt, param)
            ids = tokenizer.encode(prompt, add_special_tokens=True)
        else:
            ids = prompt
        left = max(1, self._model.max_model_len - len(ids))
        asked = (
            min(DEFAULT_MAX_TOKENS, left) if request.token_limit is None else request.token_limit
        )
        limit = self._limit(len(ids), request, max(1, asked), param)
        self._checked(ids, param)
        if not request.echo:
            return Prompt(ids, limit)
        text = prompt if isinstance(prompt, str) else tokenizer.decode(ids)
        if request.prompt_top_count is None:
            return Prompt(ids, limit, text)
        written = isinstance(prompt, str)
        offsets = text_offsets(tokenizer, ids, text) if written else id_offsets(tokenizer, ids)
        return Prompt(ids, limit, text, offsets=offsets)

    def _rendered(self, request: Conversation, *, generates: bool = True) -> Rendered:
        check = self._check_characters if generates else _check_tokenized
        rendered = self._renderer.render(request, check)
        check(len(rendered.text), "messages")
        if generates:
            self._check_least(rendered.text, "messages")
        return rendered

    def _conversation_ids(self, rendered: Rendered, *, special: bool = False) -> list[int]:
        model, text = self._model, rendered.text
        if rendered.shield is None:
            return model.tokenizer.encode(text, add_special_tokens=special)
        ids = model.tokenizer.encode_covered(text, rendered.shield.uncover)
        if special:
            # Around a text the tokenizer adds the same as around no text.
            around = model.tokenizer.encode("", add_special_tokens=True)
            ids = [*around[:1], *ids, *around[1:]]
        return ids

    def _opening(self, request: ChatRequest, text: str) -> Opening:
        """What the prompt's end says of reasoning."""
        style = self._model.formats.reasoning
        if style is None:
            return Opening.OPEN
        last = request.messages[-1] if request.continue_final_message else None
        return style.state(text, last.text if last else None)

    def _check_tools(self, request: ChatRequest) -> None:
        if request.tool_mode == "none":
            return
        model = self._model
        if model.formats.tools is None:
            problem = "has no format for calls of tools"
        elif not model.shows_tools:
            problem = "has a chat template that does not show it any tools"
        else:
            return
        raise InvalidRequest(
            f"The model `{model.name}` {problem}. Leave 'tools' out.",
            param="tools",
            code="unsupported_parameter",
        )

    def _limit(self, size: int, request: SamplingRequest, asked: int | None, param: str) -> int:
        """The most tokens that may be generated after ``size`` tokens of prompt."""
        longest, where = self._model.max_model_len, param.partition("[")[0]
        if size + (asked or 1) > longest:
            wanted = (
                f"you requested {size + asked} tokens ({size} in the {where}, {asked} in the"
                f" completion). Please reduce the length of the {where} or completion."
                if asked and size < longest
                else f"your {where} resulted in {size} tokens, which leaves no room for a"
                f" completion. Please reduce the length of the {where}."
            )
            raise ContextLengthExceeded(_too_long(longest, wanted), param=param)
        limit = asked or longest - size
        if request.min_tokens and request.min_tokens > limit:
            raise InvalidRequest(
                f"'min_tokens' is {request.min_tokens}, but at most {limit} tokens can be"
                " generated.",
                param="min_tokens",
            )
        return limit

    def _check_characters(self, count: int, param: str) -> None:
        """Nothing that is longer is encoded, whatever the tokenizer may make of it."""
        if count > self._characters_max:
            where = param.partition("[")[0]
            raise ContextLengthExceeded(
                _too_long(
                    self._model.max_model_len,
                    f"your {where} came to {count} characters, of which at most"
                    f" {self._characters_max} are read. Please reduce the length of the {where}.",
                ),
                param=param,
            )

    def _check_least(self, text: str, param: str) -> None:
        least = self._model.tokenizer.least_tokens(text)
        if least > self._model.max_model_len:
            where = param.partition("[")[0]
            raise ContextLengthExceeded(
                _too_long(
                    self._model.max_model_len,
                    f"your {where} would result in at least {least} tokens. Please reduce the"
                    f" length of the {where}.",
                ),
                param=param,
            )

    def _checked(self, ids: list[int], param: str) -> list[int]:
        if not ids:
            raise InvalidRequest("The prompt is empty: give at least one token.", param=param)
        if max(ids) >= self._model.vocab_size:
            raise InvalidRequest(
                f"The token id {max(ids)} is outside of the model's vocabulary of"
                f" {self._model.vocab_size} tokens.",
                param=param,
            )
        return ids

    def _check_token_ids(self, request: SamplingRequest) -> None:
        """No id beyond the logits may reach a worker: it would read or write other rows."""
        named: list[tuple[str, Iterable[int]]] = [
            ("logit_bias", request.logit_bias or ()),
            ("allowed_token_ids", request.allowed_token_ids or ()),
            ("stop_token_ids", request.stop_token_ids or ()),
        ]
        for param, ids in named:
            largest = max(ids, default=0)
            if largest >= self._model.vocab_size:
                raise InvalidRequest(
                    f"'{param}' has the token id {largest}, which is outside of the model's"
                    f" vocabulary of {self._model.vocab_size} tokens.",
                    param=param,
                )


def _check_echoed(request: CompletionRequest, prompts: list[Prompt]) -> None:
    told = sum(len(prompt.ids) for prompt in prompts) * request.candidates
    if request.prompt_top_count is not None and told > ECHOED_TOKENS_MAX:
        raise InvalidRequest(
            f"With 'echo' and 'logprobs' the prompts of all choices may have {ECHOED_TOKENS_MAX}"
            f" tokens together, but these have {told}. Send fewer of them in one request.",
            param="prompt",
        )


def _too_long(longest: int, rest: str) -> str:
    return f"This model's maximum context length is {longest} tokens. However, {rest}"


def _check_tokenized(count: int, param: str) -> None:
    if count > TOKENIZE_CHARACTERS_MAX:
        raise InvalidRequest(
            f"Invalid '{param}': expected at most {TOKENIZE_CHARACTERS_MAX} characters in all,"
            f" but got {count}.",
            param=param,
        )
