"""The model's own chat template: from messages to the text of a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.nodes

from sluice_gateway.content_format import ContentFormat, content_format
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.sandbox import TemplateEnvironment, TemplateRefused, TemplateTooLarge
from sluice_gateway.special_tokens import NAMES
from sluice_gateway.watchdog import TimeLimitExceeded, Watchdog

RENDER_SECONDS = 5.0
# Characters that one rendering may put out. What it may make on the way is MADE times that.
OUTPUT_MAX = 16_000_000
MADE = 8
# Characters of a template's own words that go into an error message.
MESSAGE_MAX = 500


class ChatTemplate:
    """A model's templates, compiled. May be used from any thread.

    A model without a template, or with a broken one, has a ChatTemplate too: it can complete
    plain text, and rendering a chat is what fails.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        variables: Mapping[str, Any] | None = None,
        *,
        seconds: float = RENDER_SECONDS,
        output_max: int = OUTPUT_MAX,
    ) -> None:
        """Compile the templates.

        ``sources``: templates by name, "default" and perhaps "tool_use"; may be empty.
        ``variables``: what every template sees, such as ``bos_token``.
        """
        self._environment = TemplateEnvironment()
        self._variables = dict(variables or {})
        self._watchdog = Watchdog(seconds)
        self._output_max = output_max
        self._sources = dict(sources)
        self._broken: dict[str, str] = {}
        self._compiled: dict[str, jinja2.Template] = {}
        self._formats: dict[str, ContentFormat] = {}
        self._read: dict[str, frozenset[str]] = {}
        for name, source in sources.items():
            self._compile(name, source)

    @classmethod
    def from_files(
        cls, files: Mapping[str, bytes], *, seconds: float = RENDER_SECONDS
    ) -> ChatTemplate:
        """From ``chat_template.jinja`` if there, else from ``tokenizer_config.json``.

        Raises ValueError if the files are not what they should be.
        """
        config = json.loads(files.get("tokenizer_config.json") or b"{}")
        try:
            sources = _sources(files, config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("tokenizer_config.json has a malformed chat_template") from error
        return cls(sources, _special_variables(config), seconds=seconds)

    def format(self, *, tools: bool = False) -> ContentFormat:
        """How the template wants the content of a message: as a string, or as parts."""
        return self._formats.get(self._name(tools=tools), "string")

    def source(self, *, tools: bool = False) -> str:
        """The template's own text; empty if there is none."""
        return self._sources.get(self._name(tools=tools), "")

    def mentions(self, word: str, *, tools: bool = False) -> bool:
        """Whether the word stands anywhere in the template."""
        return word in self.source(tools=tools)

    def reads(self, variable: str, *, tools: bool = False) -> bool:
        """Whether the template does anything with a variable that it is given."""
        return variable in self._read.get(self._name(tools=tools), ())

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text. ``variables`` never override what the template is given here.

        Raises InvalidRequest when the model has no template, or the template refuses the
        messages, fails, or takes too much time or text.
        """
        given = {
            **self._variables,
            **(variables or {}),
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        template = self._template(tools=tools is not None)
        try:
            return self._watchdog.run(lambda: self._render(template, given))
        except TemplateRefused as error:
            raise _refusal(str(error.message)[:MESSAGE_MAX]) from error
        except (TimeLimitExceeded, MemoryError, RecursionError) as error:
            raise _refusal("The model's chat template takes too long or too much.") from error
        except InvalidRequest:
            raise
        except Exception as error:
            raise _refusal(f"The model's chat template failed: {_reason(error)}") from error

    def _render(self, template: jinja2.Template, given: Mapping[str, Any]) -> str:
        self._environment.budget.left = self._output_max * MADE
        parts: list[str] = []
        left = self._output_max
        for part in template.generate(given):
            left -= len(part)
            if left < 0:
                raise TemplateTooLarge("it makes too much text")
            parts.append(part)
        return "".join(parts)

    def _compile(self, name: str, source: str) -> None:
        try:
            self._compiled[name] = self._environment.from_string(source)
            tree = self._environment.parse(source)
            self._formats[name] = content_format(tree)
            names = tree.find_all(jinja2.nodes.Name)
            self._read[name] = frozenset(each.name for each in names if each.ctx == "load")
        except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
            self._broken[name] = _reason(error)

    def _name(self, *, tools: bool) -> str:
        return "tool_use" if tools and "tool_use" in self._sources else "default"

    def _template(self, *, tools: bool) -> jinja2.Template:
        name = self._name(tools=tools)
        if name in self._broken:
            raise _refusal(f"The model's chat template is broken: {self._broken[name]}")
        if name not in self._compiled:
            raise InvalidRequest(
                "The model has no chat template. Use /v1/completions, and write the prompt as"
                " the model expects it.",
                param="model",
                code="no_chat_template",
            )
        return self._compiled[name]


def _sources(files: Mapping[str, bytes], config: Mapping[str, Any]) -> dict[str, str]:
    named = config.get("chat_template")
    sources: dict[str, str] = {}
    if isinstance(named, str):
        sources["default"] = named
    elif isinstance(named, list):
        sources = {entry["name"]: entry["template"] for entry in named}
    elif isinstance(named, dict):
        sources = dict(named)
    if "chat_template.jinja" in files:
        sources["default"] = files["chat_template.jinja"].decode()
    if not all(isinstance(source, str) for source in sources.values()):
        raise TypeError("a template is not a string")
    return sources


def _special_variables(config: Mapping[str, Any]) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for name in NAMES:
        value = config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            variables[name] = content
    named = config.get("extra_special_tokens")
    if isinstance(named, dict):  # such as a model's own image_token
        variables.update({name: text for name, text in named.items() if isinstance(text, str)})
    extra = config.get("additional_special_tokens") or []
    contents = [token.get("content") if isinstance(token, dict) else token for token in extra]
    if contents:
        variables["additional_special_tokens"] = contents
    return variables


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="messages")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MESSAGE_MAX]
