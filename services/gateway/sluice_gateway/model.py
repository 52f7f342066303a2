"""A served model, as the text side of the gateway knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sluice_gateway.grammar import mark_tokens
from sluice_gateway.output.formats import Formats, detect
from sluice_gateway.output.formats.table import AUTO
from sluice_gateway.template import ChatTemplate
from sluice_gateway.tokenizer import Tokenizer

#: The contract's name of what clients have several fields for.
STRUCTURED_OUTPUT = "structured_output"


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What the model's author set in generation_config.json; None where nothing was said."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a worker says about its model.

    ``max_model_len`` and ``vocab_size`` are in tokens; every token id is below ``vocab_size``.
    ``parent`` is the model whose adapter this is, and empty for one that is none.
    ``request_fields`` are the contract's later fields, by name, that its engine honours.
    """

    name: str
    max_model_len: int
    vocab_size: int
    fingerprint: str = ""
    tokenizer_hash: str = ""
    eos_token_ids: tuple[int, ...] = ()
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    created: int = 0
    engine: str = ""
    structured_output: bool = False
    parent: str = ""
    request_fields: frozenset[str] = frozenset()

    @property
    def adapter(self) -> str:
        """The adapter's name to its worker; empty for a model that is none."""
        return self.name if self.parent else ""

    @property
    def honoured(self) -> frozenset[str]:
        """What not every worker honours and this one does, by the contract's names."""
        own = {STRUCTURED_OUTPUT} if self.structured_output else ()
        return self.request_fields.union(own)

    def of_adapter(self, name: str, fingerprint: str) -> ModelInfo:
        """What there is to say of an adapter of this model."""
        return replace(self, name=name, fingerprint=fingerprint, parent=self.name)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model with its tokenizer and chat template. Immutable, safe to use from any thread.

    ``formats``: how it writes reasoning and calls. ``shows_tools``: whether its template tells it
    of tools, or the operator says that something does. ``mark_ids``: the tokens of their markup.
    ``grammar_tokens``: those marks that a grammar has to name by id. ``needs``: those of the
    contract's fields that the request at hand needs and not all workers may honour.
    """

    info: ModelInfo
    tokenizer: Tokenizer
    template: ChatTemplate
    eos_token_ids: frozenset[int]
    formats: Formats
    shows_tools: bool
    mark_ids: frozenset[int]
    grammar_tokens: Mapping[str, int]
    needs: frozenset[str] = frozenset()

    @classmethod
    def build(
        cls,
        info: ModelInfo,
        files: Mapping[str, bytes],
        *,
        tool_format: str = "auto",
        reasoning_format: str = "auto",
    ) -> ServedModel:
        """Load the tokenizer files. Takes up to a second for a large vocabulary.

        ``tool_format``, ``reasoning_format``: names, or "auto" to ask the chat template.

        Raises ValueError when they are missing or broken. A broken chat template is no such
        error: the model can still complete plain text.
        """
        tokenizer = Tokenizer.from_files(files)
        template = ChatTemplate.from_files(files)
        formats = detect(template.source(tools=True), tools=tool_format, reasoning=reasoning_format)
        added = tokenizer.added_tokens()
        return cls(
            info=info,
            tokenizer=tokenizer,
            template=template,
            eos_token_ids=frozenset(info.eos_token_ids),
            formats=formats,
            shows_tools=tool_format != AUTO or template.reads("tools", tools=True),
            mark_ids=frozenset(number for number, text, _ in added if text in formats.marks),
            grammar_tokens=mark_tokens(formats.marks, added),
        )

    def described_as(self, info: ModelInfo) -> ServedModel:
        """Another model with the same tokenizer files, which are in memory once."""
        return replace(self, info=info, eos_token_ids=frozenset(info.eos_token_ids))

    def beside(self, others: Iterable[ServedModel]) -> ServedModel:
        """The same with what any of the others honours that takes its prompts, too.

        Workers of several releases or engines may serve one model; what a request needs then says
        which of them it may go to.
        """
        mine = self.info
        theirs = [other.info for other in others if other.takes_prompts_of(self)]
        fields = mine.request_fields.union(*(info.request_fields for info in theirs))
        structured = mine.structured_output or any(info.structured_output for info in theirs)
        if (fields, structured) == (mine.request_fields, mine.structured_output):
            return self
        info = replace(mine, request_fields=fields, structured_output=structured)
        return replace(self, info=info)

    def needing(self, fields: frozenset[str]) -> ServedModel:
        """The same for a request that needs these of what not all workers honour."""
        return replace(self, needs=fields) if fields else self

    @property
    def name(self) -> str:
        """The name under which the model is served."""
        return self.info.name

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and output together."""
        return self.info.max_model_len

    @property
    def vocab_size(self) -> int:
        """The width of the logits."""
        return self.info.vocab_size

    def takes_prompts_of(self, other: ServedModel) -> bool:
        """Whether a prompt made for the other may go to it.

        That is the same model with the same ids, room enough, and an engine that honours what
        the request needs.
        """
        mine, theirs = self.info, other.info
        return (
            mine.name == theirs.name
            and mine.parent == theirs.parent
            and mine.tokenizer_hash == theirs.tokenizer_hash
            and mine.vocab_size == theirs.vocab_size
            and mine.max_model_len >= theirs.max_model_len
            and (not other.needs or mine.honoured >= other.needs)
        )

    def serves_same_as(self, other: ServedModel) -> bool:
        """Whether a row begun on one may go on on the other: same name, ids and limits."""
        mine, theirs = self.info, other.info
        return (
            mine.name == theirs.name
            and mine.parent == theirs.parent
            and mine.fingerprint == theirs.fingerprint
            and mine.tokenizer_hash == theirs.tokenizer_hash
            and mine.max_model_len == theirs.max_model_len
            and mine.vocab_size == theirs.vocab_size
            and (not other.needs or mine.honoured >= other.needs)
        )
