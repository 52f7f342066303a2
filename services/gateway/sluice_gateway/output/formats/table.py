"""The formats, by family of models, and which one a chat template speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from sluice_gateway.output.formats import deepseek, glm, kimi, qwen_xml
from sluice_gateway.output.formats import harmony as gpt_oss
from sluice_gateway.output.formats import tagged as json_formats
from sluice_gateway.output.formats.parse import Read
from sluice_gateway.output.formats.reasoning import ReasoningFormat

AUTO, NONE = "auto", "none"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models calls tools.

    ``marks``: the strings of its markup, which may be special tokens. ``clues``: a template that
    has all of these, and none of ``unless``, is of this family. ``ids``: "nine" where the
    template takes ids of nine letters and digits only, "numbered" where it takes a call's name
    and number for its id. ``parallel``: an answer may have several calls.
    """

    name: str
    read: Read
    marks: tuple[str, ...] = ()
    clues: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    ids: Literal["call", "nine", "numbered"] = "call"
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Formats:
    """How a model writes its answers. None: it has no calls, or no reasoning."""

    tools: ToolFormat | None = None
    reasoning: ReasoningFormat | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """The strings that must be in the text, special tokens or not, for it to be read."""
        found = self.tools.marks if self.tools else ()
        if self.reasoning is not None:
            found += (self.reasoning.opening, self.reasoning.closing)
            if self.reasoning.read is not None:
                found += _HARMONY_MARKS
        return tuple(dict.fromkeys(found))


_HARMONY_MARKS = (
    gpt_oss.START,
    gpt_oss.CHANNEL,
    gpt_oss.CONSTRAIN,
    gpt_oss.MESSAGE,
    gpt_oss.END,
    gpt_oss.CALL,
    gpt_oss.RETURN,
)
_DEEPSEEK_MARKS = (
    deepseek.CALLS_BEGIN,
    deepseek.CALL_BEGIN,
    deepseek.SEPARATOR,
    deepseek.CALL_END,
    deepseek.CALLS_END,
)
_KIMI_MARKS = (
    kimi.SECTION_BEGIN,
    kimi.CALL_BEGIN,
    kimi.ARGUMENTS_BEGIN,
    kimi.CALL_END,
    kimi.SECTION_END,
)
_GLM_MARKS = (
    glm.TOOL_OPEN,
    glm.KEY_OPEN,
    glm.KEY_CLOSE,
    glm.VALUE_OPEN,
    glm.VALUE_CLOSE,
    glm.TOOL_CLOSE,
)
# Granite 3.1 writes the mark without bars, whatever its template says.
_TOOL_CALL_LIST = (
    json_formats.tagged("<|tool_call|>", "<|/tool_call|>", also="<tool_call>"),
    ("<|tool_call|>", "<|/tool_call|>"),
)
# Markup of calls that nothing here reads: a model that was taught it would not write bare JSON.
_OTHERS = (
    "\N{FULLWIDTH VERTICAL LINE}DSML\N{FULLWIDTH VERTICAL LINE}",  # DeepSeek V3.2
    "<invoke name=",  # MiniMax M2
    "<tool_calls>",  # Hunyuan
    "<|tool_call_start|>",  # LFM2
    "<|tool_call>",  # Gemma 4
    "<|open|>",  # Kimi K3
    "<|START_ACTION|>",  # Command R7B
    "<|tools_prefix|>",  # Apertus
    "<|action_start|>",  # InternLM
    "<function_calls>",  # Olmo 3
    "func_name1(",  # calls as in Python: ToolACE, Llama's other template
)
_MISTRAL_MARKS = (json_formats.TOOL_CALLS, json_formats.CALL_ID, json_formats.ARGS)

# In the order in which their clues are looked for: the more special first.
_TOOLS = (
    ToolFormat(
        "harmony",
        gpt_oss.harmony,
        _HARMONY_MARKS,
        clues=(gpt_oss.CHANNEL, gpt_oss.MESSAGE),
        parallel=False,  # the model's turn ends with a call
    ),
    ToolFormat(
        "mistral_v11",
        json_formats.mistral,
        _MISTRAL_MARKS,
        clues=(json_formats.TOOL_CALLS, json_formats.ARGS),
        ids="nine",
    ),
    ToolFormat(
        "mistral",
        json_formats.mistral,
        _MISTRAL_MARKS,
        clues=(json_formats.TOOL_CALLS,),
        ids="nine",
    ),
    ToolFormat(
        "deepseek_v3", deepseek.deepseek, _DEEPSEEK_MARKS, clues=(deepseek.SEPARATOR, "```json")
    ),
    ToolFormat("deepseek_v31", deepseek.deepseek, _DEEPSEEK_MARKS, clues=(deepseek.SEPARATOR,)),
    ToolFormat("kimi_k2", kimi.kimi, _KIMI_MARKS, clues=(kimi.ARGUMENTS_BEGIN,), ids="numbered"),
    ToolFormat(
        "seed_oss",
        qwen_xml.qwen_xml(qwen_xml.SEED_OPEN, qwen_xml.SEED_CLOSE),
        (qwen_xml.SEED_OPEN, qwen_xml.SEED_CLOSE),
        clues=(qwen_xml.SEED_OPEN,),
    ),
    ToolFormat(
        "qwen3_coder",
        qwen_xml.qwen_xml(),
        (qwen_xml.TOOL_OPEN, qwen_xml.TOOL_CLOSE),
        clues=(qwen_xml.FUNCTION_OPEN, qwen_xml.PARAMETER_OPEN),
    ),
    ToolFormat("glm", glm.glm, _GLM_MARKS, clues=(glm.TOOL_OPEN, glm.KEY_OPEN)),
    ToolFormat(
        "hermes",
        json_formats.tagged("<tool_call>", "</tool_call>"),
        ("<tool_call>", "</tool_call>"),
        clues=("<tool_call>",),
    ),
    ToolFormat("tool_call_list", *_TOOL_CALL_LIST, clues=("<|tool_call|>",)),
    # Phi-4-mini's own template shows tools, but no call.
    ToolFormat("phi4_mini", *_TOOL_CALL_LIST, clues=("<|tool|>", "<|/tool|>")),
    ToolFormat(
        "functools", json_formats.tagged("functools"), ("functools",), clues=("functools[",)
    ),
    ToolFormat(
        "nemotron",
        json_formats.tagged("<TOOLCALL>", "</TOOLCALL>"),
        ("<TOOLCALL>", "</TOOLCALL>"),
        clues=("<TOOLCALL>[",),
    ),
    ToolFormat(
        "llama3",
        json_formats.bare(json_formats.PYTHON_TAG),
        (json_formats.PYTHON_TAG,),
        clues=("<|start_header_id|>", '"parameters"'),
        parallel=False,  # its template refuses to show more than one
    ),
    # A template that shows tools, but no way to call them that we know.
    ToolFormat("json", json_formats.bare(), clues=("tools",), unless=_OTHERS),
)

_REASONING = (
    ReasoningFormat(
        "harmony",
        f"{gpt_oss.CHANNEL}analysis{gpt_oss.MESSAGE}",
        gpt_oss.END,
        read=gpt_oss.harmony,
        clues=(gpt_oss.CHANNEL, "analysis"),
        key="thinking",
    ),
    ReasoningFormat("mistral", "[THINK]", "[/THINK]"),
    ReasoningFormat("seed", "<seed:think>", "</seed:think>"),
    ReasoningFormat(
        "granite",
        "<think>",
        "</think>",
        answer=("<response>", "</response>"),
        clues=("<think></think>", "<response></response>"),
    ),
    ReasoningFormat("granite32", "Here is my thought process:", "Here is my response:"),
    ReasoningFormat("think", "<think>", "</think>"),
    # For a model that reasons, but whose template does not say so: never found, only chosen.
    ReasoningFormat("think_always", "<think>", "</think>", inside=True),
)

TOOL_FORMATS: Mapping[str, ToolFormat] = MappingProxyType({one.name: one for one in _TOOLS})
REASONING_FORMATS: Mapping[str, ReasoningFormat] = MappingProxyType(
    {one.name: one for one in _REASONING}
)


def detect(template: str, *, tools: str = AUTO, reasoning: str = AUTO) -> Formats:
    """The formats that a chat template's text speaks of.

    ``tools``, ``reasoning``: the operator's choice, by name; "auto" looks, "none" is none.
    Raises ValueError for a name that is not in the table.
    """
    return Formats(
        _tools_of(template) if tools == AUTO else _named(TOOL_FORMATS, tools, "tool format"),
        _reasoning_of(template)
        if reasoning == AUTO
        else _named(REASONING_FORMATS, reasoning, "reasoning format"),
    )


def _tools_of(template: str) -> ToolFormat | None:
    for one in _TOOLS:
        has_clues = all(clue in template for clue in one.clues)
        if has_clues and not any(other in template for other in one.unless):
            return one
    return None


def _reasoning_of(template: str) -> ReasoningFormat | None:
    for one in _REASONING:
        if one.clues:
            found = all(clue in template for clue in one.clues)
        else:
            # Templates that leave earlier reasoning out may have but the closing mark.
            found = one.opening in template or one.closing in template
        if found:
            return one
    return None


def _named(table: Mapping[str, T], name: str, what: str) -> T | None:
    if name == NONE:
        return None
    if name not in table:
        known = ", ".join([AUTO, NONE, *table])
        raise ValueError(f"there is no {what} {name!r}; choose one of {known}")
    return table[name]
