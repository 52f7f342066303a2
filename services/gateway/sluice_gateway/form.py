"""What form the answers to a request may have: which tools they call, what their text must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import InvalidRequest
from sluice_gateway.grammar import (
    Constraint,
    OfferedTool,
    structured_output,
    tells_calls_apart,
    tool_grammar,
)
from sluice_gateway.grammar.structured import ANY_OBJECT
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import Formats, Opening
from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.schema.structured import (
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredFields,
    StructuredOutputs,
)
from sluice_gateway.thinking_budget import thinking_budget


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of all answers to one request.

    ``formats``: how the model writes reasoning and calls; None: its text is all there is.
    ``tools``: those that may be called, with the JSON Schemas of their parameters.
    ``names_tool``: one was named, so that its call is what was asked for and no pause.
    ``structured``: what the worker must enforce, None: nothing; ``source`` is then the field of
    the request that it comes from. ``thinking``: how long the model may reason.
    """

    formats: Formats | None = None
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    opening: Opening = Opening.OPEN
    names_tool: bool = False
    structured: pb.StructuredOutput | None = None
    source: str = ""
    thinking: pb.ThinkingBudget | None = None


PLAIN = AnswerForm()


def chat_form(request: ChatRequest, model: ServedModel, opening: Opening) -> AnswerForm:
    """The form of a conversation's answers; ``opening``: what its prompt says of reasoning.

    Raises InvalidRequest for a form that the model's engine cannot enforce, or whose reasoning
    cannot be bounded as was asked.
    """
    offered = _offered(request)
    structured, source = _structured(request, model, opening, offered)
    reads = bool(offered) or model.formats.reasoning is not None
    return AnswerForm(
        formats=model.formats if reads else None,
        tools={tool.name: tool.schema for tool in offered},
        opening=opening,
        names_tool=request.names_tool,
        structured=structured,
        source=source,
        thinking=thinking_budget(request.thinking_token_budget, model, opening),
    )


def completion_form(request: CompletionRequest, model: ServedModel) -> AnswerForm:
    """The form of a completion, which is text as the model writes it. Raises InvalidRequest."""
    constraint, source = _constraint(request)
    if constraint is None:
        return PLAIN
    _check_engine(model, source)
    return AnswerForm(structured=structured_output(constraint), source=source)


def _offered(request: ChatRequest) -> list[OfferedTool]:
    functions = [tool.function for tool in request.callable_tools]
    return [OfferedTool(each.name, each.parameters, each.strict) for each in functions]


def _structured(
    request: ChatRequest, model: ServedModel, opening: Opening, offered: list[OfferedTool]
) -> tuple[pb.StructuredOutput | None, str]:
    """What the worker must enforce, and where a mistake in it would be the client's."""
    constraint, source = _constraint(request)
    if offered and (asked := _tools_ask(request, offered) or (source if constraint else "")):
        _check_engine(model, asked)
        required = request.tool_mode == "required"
        if constraint is not None and not required and not tells_calls_apart(model.formats):
            raise InvalidRequest(
                f"The model `{model.name}` writes calls as JSON without a mark, so that nothing"
                f" would tell them from '{source}'. Set 'tool_choice' to 'none' or 'required'.",
                param=source,
                code="unsupported_parameter",
            )
        grammar = tool_grammar(
            model.formats,
            offered,
            model.grammar_tokens,
            opening=opening,
            required=required,
            parallel=request.parallel_tool_calls is not False,
            otherwise=constraint,
        )
        at_fault = "tools" if required or constraint is None else source
        return pb.StructuredOutput(grammar=grammar), at_fault
    if constraint is None:
        return None, ""
    _check_engine(model, source)
    style, tokens = model.formats.reasoning, model.grammar_tokens
    return structured_output(constraint, style, tokens, opening=opening), source


def _tools_ask(request: ChatRequest, offered: list[OfferedTool]) -> str:
    """The field because of which calls need a grammar; empty: they need none."""
    if request.tool_mode == "required" or len(offered) < len(request.tools or ()):
        return "tool_choice"
    if request.parallel_tool_calls is False:
        return "parallel_tool_calls"
    return "tools" if any(tool.strict for tool in offered) else ""


def _constraint(request: StructuredFields) -> tuple[Constraint | None, str]:
    """The form that the text must have, and the field that says so."""
    wanted = request.response_format
    if isinstance(wanted, JsonObjectFormat):
        return Constraint("json", ANY_OBJECT), "response_format"
    if isinstance(wanted, JsonSchemaFormat):
        named = wanted.json_schema
        schema = ANY_OBJECT if named.json_schema is None else named.json_schema
        return Constraint("json", schema, lenient=not named.strict), "response_format"
    if request.structured_outputs is None:
        return None, ""
    return _of_outputs(request.structured_outputs), "structured_outputs"


def _of_outputs(outputs: StructuredOutputs) -> Constraint:
    if outputs.json_ is not None:
        return Constraint("json", outputs.json_)
    if outputs.regex is not None:
        return Constraint("regex", outputs.regex)
    if outputs.choice is not None:
        return Constraint("choice", outputs.choice)
    return Constraint("grammar", outputs.grammar)


def _check_engine(model: ServedModel, param: str) -> None:
    if not model.info.structured_output:
        engine = model.info.engine or "this"
        raise InvalidRequest(
            f"'{param}' asks for what must be enforced while the answer is generated, and the"
            f" engine of the model `{model.name}` ({engine}) cannot do that.",
            param=param,
            code="unsupported_parameter",
        )
