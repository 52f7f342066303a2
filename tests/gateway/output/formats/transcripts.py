"""Answers as models of each family write them, and what they mean."""

from __future__ import annotations

from sluice_gateway.output.formats import Opening

from tests.gateway.output.formats import transcripts_marked as marked
from tests.gateway.output.formats.reading import Transcript
from tests.gateway.output.formats.transcripts_marked import PARIS, TRICKY

BAR = "\N{FULLWIDTH VERTICAL LINE}"


def deep(name: str) -> str:
    return f"<{BAR}{name}{BAR}>"


BEGIN, END = deep("tool▁calls▁begin"), deep("tool▁calls▁end")
ONE, DONE, SEP = deep("tool▁call▁begin"), deep("tool▁call▁end"), deep("tool▁sep")


def hermes_call(arguments: str, name: str = "get_weather") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


HERMES = [
    Transcript("one call", hermes_call(PARIS), (("get_weather", PARIS),)),
    Transcript(
        "two calls",
        f"{hermes_call(PARIS)}\n{hermes_call('{}', 'now')}",
        (("get_weather", PARIS), ("now", "{}")),
    ),
    Transcript(
        "text before",
        f"Let me look.\n\n{hermes_call(TRICKY)}\n",
        (("get_weather", TRICKY),),
        content="Let me look.",
    ),
    Transcript(
        "text on both sides",
        f" One\n{hermes_call(PARIS)}\n\n Two \n",
        (("get_weather", PARIS),),
        content=" One\nTwo \n",
        order="ctc",
    ),
    Transcript(
        "no call", " Use a <tool> or <tool_cal, \n", content=" Use a <tool> or <tool_cal, \n"
    ),
    Transcript("nothing", "", content=""),
    Transcript("whitespace", " \n", content=" \n"),
    Transcript(
        "a mark within what looked like one",
        f"a<tool_{hermes_call(PARIS)}",
        (("get_weather", PARIS),),
        content="a<tool_",
    ),
    Transcript(
        "a call within what looked like one",
        f"<tool_call> {hermes_call(PARIS)}",
        (("get_weather", PARIS),),
        content="<tool_call>",
    ),
    Transcript(
        "not JSON",
        "<tool_call>\nget_weather(Paris)\n</tool_call>",
        content="<tool_call>\nget_weather(Paris)\n</tool_call>",
    ),
    Transcript(
        "no name",
        '<tool_call>{"arguments": {"a": "{<"}}</tool_call> x',
        content='<tool_call>{"arguments": {"a": "{<"}}</tool_call> x',
    ),
    Transcript(
        "arguments before the name",
        f'<tool_call>{{"arguments": {TRICKY}, "id": 5, "name": "get_weather"}}</tool_call>',
        (("get_weather", TRICKY),),
    ),
    Transcript(
        "no arguments",
        '<tool_call>{"name": "now"}</tool_call>{"name": "now"}',
        (("now", "{}"),),
        content='{"name": "now"}',
    ),
    Transcript(
        "arguments as a string",
        r'<tool_call>{"name": "now", "arguments": "{\"a\": \"\\u00e9\"}"}</tool_call>',
        (("now", r'{"a": "\u00e9"}'),),
    ),
    Transcript(
        "arguments null",
        '<tool_call>{"name": "now", "arguments": null}</tool_call>',
        (("now", "{}"),),
    ),
    Transcript(
        "a brace missing",
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}\n</tool_call>\nWell.',
        (("get_weather", PARIS),),
        content="Well.",
    ),
    Transcript(
        "arguments that are not JSON",
        '<tool_call>{"name": "now", "arguments": {\'a\': 1}}</tool_call> x',
        (("now", "{'a': 1}}"),),
        content="x",
    ),
    Transcript(
        "an unknown tool",
        hermes_call("{}", "never_heard_of"),
        (("never_heard_of", "{}"),),
    ),
    Transcript("a name that is none", hermes_call("{}", "a b"), content=hermes_call("{}", "a b")),
]

THINKING = [
    Transcript(
        "think and call",
        f"<think>\nI need <b>.\n\nSo.\n</think>\n\n{hermes_call(PARIS)}",
        (("get_weather", PARIS),),
        reasoning="I need <b>.\n\nSo.",
        order="rt",
    ),
    Transcript(
        "think and say",
        "<think>\nHm </thin\n</think>\n\nHello.\n",
        content="Hello.\n",
        reasoning="Hm </thin",
        order="rc",
    ),
    Transcript("no thought", " Hello <think>x</think>", content=" Hello <think>x</think>"),
    Transcript("an empty thought", "<think>\n\n</think>\n\nHello", content="Hello"),
    Transcript(
        "opened by the prompt",
        f"I need.\n</think>\n\nLook:\n{hermes_call(PARIS)}",
        (("get_weather", PARIS),),
        content="Look:",
        reasoning="I need.",
        opening=Opening.INSIDE,
    ),
    Transcript(
        "opened twice",
        "\n<think>\nOh.</think>Yes",
        content="Yes",
        reasoning="Oh.",
        opening=Opening.INSIDE,
    ),
    Transcript("never closed", "Oh. ", reasoning="Oh.", opening=Opening.INSIDE),
    Transcript("closed by the prompt", "Hi. ", content="Hi. ", opening=Opening.CLOSED),
    Transcript(
        "a call in a thought is a thought",
        f"<think>{hermes_call(PARIS)}</think>Done",
        content="Done",
        reasoning=hermes_call(PARIS),
    ),
]

XML = [
    Transcript(
        "each type",
        '<tool_call>\n<function=get_weather>\n<parameter=city>\nSão "P"\n\nB\n</parameter>\n'
        '<parameter=days>\n3\n</parameter>\n<parameter=options>\n{"a": [1]}\n</parameter>\n'
        "<parameter=units>\nnull\n</parameter>\n</function>\n</tool_call>",
        (
            (
                "get_weather",
                '{"city": "São \\"P\\"\\n\\nB", "days": 3, "options": {"a": [1]}, "units": null}',
            ),
        ),
    ),
    Transcript(
        "odd values",
        "Well.\n<function=get_weather><parameter=city></parameter><parameter=days>\nsoon\n"
        "</parameter><parameter=else>\n5\n</parameter></function>\n",
        (("get_weather", '{"city": "", "days": "soon", "else": "5"}'),),
        content="Well.",
    ),
    Transcript(
        "two calls",
        "<tool_call>\n<function=now>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        (("now", "{}"), ("now", "{}")),
    ),
    Transcript(
        "no call", "<tool_call>x <function=a b> <fun", content="<tool_call>x <function=a b> <fun"
    ),
]


def llama_call(arguments: str, name: str = "get_weather") -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


BARE = [
    Transcript("one call", llama_call(TRICKY), (("get_weather", TRICKY),)),
    Transcript(
        "a type before",
        '{"type": "function", "name": "now", "parameters": {}}',
        (("now", "{}"),),
    ),
    Transcript(
        "two calls",
        f"{llama_call(PARIS)}; {llama_call('{}', 'now')}",
        (("get_weather", PARIS), ("now", "{}")),
    ),
    Transcript("an unknown name", llama_call("{}", "Bob"), content=llama_call("{}", "Bob")),
    Transcript("an answer in JSON", '{"a": {"b": 1}}', content='{"a": {"b": 1}}'),
    Transcript("text", f"See {llama_call(PARIS)}", content=f"See {llama_call(PARIS)}"),
    Transcript("a link", "[here](x)", content="[here](x)"),
]
LLAMA = [
    Transcript("behind the tag", f"<|python_tag|>{llama_call(PARIS)}", (("get_weather", PARIS),)),
    Transcript(
        "text before the tag",
        f"Sure.\n<|python_tag|>{llama_call(PARIS)}",
        (("get_weather", PARIS),),
        content="Sure.",
    ),
    Transcript("code", "<|python_tag|>print(1)", content="<|python_tag|>print(1)"),
]
JSON = [
    Transcript(
        "a list",
        f'[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "now"}}]\n',
        (("get_weather", PARIS), ("now", "{}")),
    ),
]

MISTRAL = [
    Transcript(
        "a list",
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {TRICKY}}}, '
        '{"name": "now", "arguments": {}, "id": "abcdefghi"}]',
        (("get_weather", TRICKY), ("now", "{}")),
    ),
    Transcript(
        "by name",
        f"Wait.[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{{}}",
        (("get_weather", PARIS), ("now", "{}")),
        content="Wait.",
    ),
    Transcript("no call", "[TOOL_CALLS] [ARGS] or [TOOL", content="[TOOL_CALLS] [ARGS] or [TOOL"),
    Transcript(
        "a list that breaks",
        '[TOOL_CALLS][{"name": "now", "arguments": {}}, oh]',
        (("now", "{}"),),
        content=", oh]",
    ),
]
MAGISTRAL = [
    Transcript(
        "think and call",
        f"[THINK]Hm.\n[/THINK]\n[TOOL_CALLS]get_weather[ARGS]{PARIS}",
        (("get_weather", PARIS),),
        reasoning="Hm.",
    ),
]

DEEPSEEK = [
    Transcript(
        "two of V3",
        f"Ok{BEGIN}{ONE}function{SEP}get_weather\n```json\n{TRICKY}\n```{DONE}\n"
        f"{ONE}function{SEP}now\n```json\n{{}}\n```{DONE}{END}",
        (("get_weather", TRICKY), ("now", "{}")),
        content="Ok",
    ),
    Transcript(
        "two of V3.1",
        f"{BEGIN}{ONE}get_weather{SEP}{PARIS}{DONE}{ONE}now{SEP}{{}}{DONE}{END}\n",
        (("get_weather", PARIS), ("now", "{}")),
    ),
    Transcript("no call", f"{BEGIN} {ONE}a b{SEP}c", content=f"{BEGIN} {ONE}a b{SEP}c"),
    Transcript(
        "not JSON",
        f"{BEGIN}{ONE}now{SEP}{{a=1}}{DONE}{END}End",
        (("now", "{a=1}"),),
        content="End",
    ),
]
R1 = [
    Transcript(
        "think and call",
        f"Hm.\n</think>\n\n{BEGIN}{ONE}function{SEP}now\n```json\n{{}}\n```{DONE}{END}",
        (("now", "{}"),),
        reasoning="Hm.",
        opening=Opening.INSIDE,
    ),
]

HARMONY = [
    Transcript(
        "think and say",
        "<|channel|>analysis<|message|>Greet.<|end|><|start|>assistant<|channel|>final<|message|>"
        "Hello! \n",
        content="Hello! \n",
        reasoning="Greet.",
        order="rc",
    ),
    Transcript(
        "think and call",
        "<|channel|>analysis<|message|>Ask.<|end|><|start|>assistant<|channel|>commentary"
        f" to=functions.get_weather <|constrain|>json<|message|>{TRICKY}<|call|>",
        (("get_weather", TRICKY),),
        reasoning="Ask.",
        order="rt",
    ),
    Transcript(
        "recipient first",
        f" to=functions.get_weather<|channel|>commentary json<|message|>{PARIS}<|call|>",
        (("get_weather", PARIS),),
    ),
    Transcript(
        "preamble and call",
        "<|channel|>commentary<|message|>I look. <|end|><|start|>assistant"
        " to=functions.now<|channel|>commentary json<|message|><|call|>",
        (("now", "{}"),),
        content="I look.",
    ),
    Transcript(
        "two thoughts",
        "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>analysis<|message|>B"
        "<|start|>assistant<|channel|>final<|message|>C<|return|>",
        content="C",
        reasoning="A\nB",
    ),
    Transcript("plain text", "Hello <|chan", content="Hello <|chan"),
    Transcript("a header that never ends", "<|channel|>final", content="<|channel|>final"),
]


def _all() -> list[Transcript]:
    families: list[tuple[str | None, str | None, list[Transcript]]] = [
        ("hermes", None, HERMES),
        ("hermes", "think", [*HERMES, *THINKING]),
        ("qwen3_coder", None, XML),
        ("llama3", None, [*BARE, *LLAMA]),
        ("json", None, [*BARE, *JSON]),
        ("mistral", None, MISTRAL),
        ("mistral_v11", "mistral", [*MISTRAL, *MAGISTRAL]),
        ("deepseek_v3", "think", [*DEEPSEEK, *R1]),
        ("deepseek_v31", None, DEEPSEEK),
        ("harmony", "harmony", HARMONY),
        ("tool_call_list", "granite", [*marked.TOOL_CALL_LIST, *marked.GRANITE]),
        ("tool_call_list", "granite32", marked.GRANITE_32),
        ("phi4_mini", None, marked.TOOL_CALL_LIST),
        ("functools", None, marked.FUNCTOOLS),
        ("nemotron", "think", marked.NEMOTRON),
        ("seed_oss", "seed", marked.SEED),
        ("glm", "think", marked.GLM),
        ("kimi_k2", "think", marked.KIMI),
    ]
    return [
        Transcript(
            f"{tools}-{thinks}-{one.name}".replace(" ", "_"),
            one.text,
            one.calls,
            one.content,
            one.reasoning,
            tools,
            thinks,
            one.opening,
            one.order,
        )
        for tools, thinks, transcripts in families
        for one in transcripts
    ]


TRANSCRIPTS = _all()
