"""The jinja environment of chat templates: Hugging Face's, with every single step bounded.

A template comes with the model, and the model may come from anywhere. jinja's sandbox keeps it
from Python's internals; the watchdog keeps it from running for ever; this file keeps it from
filling the memory in a single step that no watchdog can interrupt, such as ``"a" * 10**10``.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.sandbox import ImmutableSandboxedEnvironment

# No template needs a whole number as large as this as an argument, or a field as wide.
INTEGER_MAX = 1_000_000
BITS_MAX = 4096
# A field that is very wide or as wide as an argument says, for % and for str.format.
_WIDE = re.compile(r"%[-#0 +]*(?:\*|\d{5,}|\d*\.(?:\*|\d{5,}))|\{[^{}]+\{|\{[^{}]*\d{5,}")
# Filters that put an argument into every line or level, and the most that it may be there.
_WIDENING = {"indent", "wordwrap", "tojson"}
_WIDENING_MAX = 100
# Filters that write out a whole structure in one step.
_WRITING = {"e", "escape", "forceescape", "format", "join", "pprint", "string", "tojson"}
_WRITING |= {"urlencode", "xmlattr"}


class TemplateRefused(jinja2.TemplateError):
    """The template called raise_exception."""


class TemplateTooLarge(jinja2.TemplateError):
    """The template made more text than is allowed."""


class Budget(threading.local):
    """The characters that one rendering may still make. Each thread has its own."""

    left = 0

    def check(self, size: int) -> None:
        """Raises TemplateTooLarge when there is not so much left."""
        if size > self.left:
            raise TemplateTooLarge("it makes too much text")

    def spend(self, size: int) -> None:
        """Take so much of what is left. Raises TemplateTooLarge."""
        self.check(size)
        self.left -= size

    def afford(self, value: Any) -> int:
        """What writing the value out costs. Raises TemplateTooLarge when that is not left.

        A list may hold one long string many times: it is small until it is written.
        """
        size, todo = 0, [value]
        while todo:
            part = todo.pop()
            size += len(part) if isinstance(part, str) else 1
            self.check(size)
            if isinstance(part, (list, tuple)):
                todo.extend(part)
            elif isinstance(part, dict):
                todo.extend(part.values())
        return size

    def spend_on(self, value: Any) -> Any:
        """The value, paid for by its length if it has one."""
        if isinstance(value, (str, list, tuple, bytes)):
            self.spend(len(value))
        return value


class GenerationTag(jinja2.ext.Extension):
    """``{% generation %}...{% endgeneration %}`` marks what an assistant said, for training.

    Here it changes nothing.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja reads it as it is

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The block's body, as if the tags were not there."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A block of its own, as transformers has it: what is set inside is not seen outside.
        return [jinja2.nodes.Scope(body).set_lineno(line)]


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Hugging Face's chat template environment. Rendering spends ``budget``."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationTag, jinja2.ext.loopcontrols],
        )
        self.budget = Budget()
        # What macros, blocks and outputs are put together with.
        self.concat = self._join  # type: ignore[method-assign]
        self.finalize = self._finalize
        del self.globals["lipsum"]
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.filters = {name: self._bounded(name, call) for name, call in self.filters.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        # "~" is no operator that the sandbox lets one intercept, so it becomes a call.
        tree = super()._parse(source, name, filename)
        for node in list(tree.find_all(jinja2.nodes.Concat)):
            node.nodes = [_joined(node.nodes)]
        return tree

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """The operator's result, unless it would be too large."""
        if operator == "**":
            _check_bits(_bits(left) * max(1, abs(right) if isinstance(right, int) else 1))
        elif operator == "*":
            self._check_product(left, right)
        elif operator == "+" and isinstance(left, str) and isinstance(right, dict):
            # A call's arguments, which some templates take for JSON and others write as JSON.
            self.budget.afford(right)
            right = _tojson(right)
        if operator == "+" and isinstance(left, (str, list, tuple)):
            self.budget.spend(len(left) + (len(right) if hasattr(right, "__len__") else 0))
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, right)
        return self.budget.spend_on(super().call_binop(context, operator, left, right))

    def call(
        self, context: jinja2.runtime.Context, called: Any, /, *args: Any, **kwargs: Any
    ) -> Any:
        """A call made by the template."""
        receiver = getattr(called, "__self__", None)
        if isinstance(receiver, (str, bytes)):
            self._check_method(called.__name__, receiver, args, kwargs)
        return self.budget.spend_on(super().call(context, called, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` as jinja's sandbox allows it. It comes to ``call`` without its string."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            self._check_format(str(value.__self__), [args, kwargs])
            return wrapped(*args, **kwargs)

        return bounded

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item or a slice."""
        found = super().getitem(obj, argument)
        return self.budget.spend_on(found) if isinstance(argument, slice) else found

    def _check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(_bits(left) + _bits(right))
        for sized, times in ((left, right), (right, left)):
            if isinstance(sized, (str, list, tuple)) and isinstance(times, int):
                # Only looked at, not spent: the result is paid for when it is there.
                self.budget.check(len(sized) * times)

    def _check_method(
        self, name: str, receiver: str | bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        _check_integers([*args, *kwargs.values()])
        if name == "replace" and len(args) > 1:
            self._check_replace(receiver, args[0], args[1])
        if name == "join" and args and isinstance(args[0], (list, tuple)):
            items = [item for item in args[0] if isinstance(item, str)]
            self.budget.spend(sum(map(len, items)) + len(receiver) * len(args[0]))
        if name == "expandtabs":
            width = args[0] if args else kwargs.get("tabsize", 8)
            self.budget.spend(len(receiver) * max(1, width if isinstance(width, int) else 1))
        if name == "translate":
            raise TemplateTooLarge("it calls translate")

    def _check_format(self, pattern: str, values: Any) -> None:
        if _WIDE.search(pattern):
            raise TemplateTooLarge("it formats to too wide a field")
        # Each field may show all of the values.
        self.budget.check((pattern.count("%") + pattern.count("{")) * self.budget.afford(values))

    def _check_replace(self, text: Any, old: Any, new: Any) -> None:
        if isinstance(text, str) and isinstance(old, str) and isinstance(new, str):
            self.budget.spend(text.count(old) * len(new))

    def _bounded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        place = 1 if hasattr(call, "jinja_pass_arg") else 0  # of the value among the arguments

        @functools.wraps(call)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            if name == "join" and not isinstance(args[place], str):
                # A generator could give one long string many times.
                args = (*args[:place], list(args[place]), *args[place + 1 :])
            self._check_filter(name, args[place:], kwargs)
            return self.budget.spend_on(call(*args, **kwargs))

        return bounded

    def _check_filter(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        value, options = args[0], [*args[1:], *kwargs.values()]
        _check_integers(options)
        if name in _WIDENING:
            _check_integers(options, _WIDENING_MAX)
            if any(isinstance(option, str) and len(option) > _WIDENING_MAX for option in options):
                raise TemplateTooLarge("it makes too much text")
        if name in _WRITING:
            self.budget.afford([value, options])
        if name == "format":
            self._check_format(str(value), options)
        if name == "replace" and len(options) > 1:
            self._check_replace(value, options[0], options[1])
        if name == "join" and options and isinstance(options[0], str):
            self.budget.spend(len(value) * len(options[0]))

    def _join(self, parts: Iterable[str]) -> str:
        parts = list(parts)
        self.budget.spend(sum(map(len, parts)))
        return "".join(parts)

    def join_bounded(self, *parts: Any) -> str:
        """What ``~`` does."""
        return self._join([str(self._finalize(part)) for part in parts])

    def _finalize(self, value: Any) -> Any:
        if isinstance(value, (list, tuple, dict)):
            self.budget.afford(value)
        return value


def _joined(parts: list[jinja2.nodes.Expr]) -> jinja2.nodes.Expr:
    joiner = jinja2.nodes.EnvironmentAttribute("join_bounded")
    return jinja2.nodes.Call(joiner, parts, [], None, None)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 1


def _check_bits(bits: int) -> None:
    if bits > BITS_MAX:
        raise TemplateTooLarge("it computes with too large numbers")


def _check_integers(values: Iterable[Any], limit: int = INTEGER_MAX) -> None:
    if any(isinstance(value, int) and abs(value) > limit for value in values):
        raise TemplateTooLarge("it calls a function with too large a number")


def _raise_exception(message: Any) -> NoReturn:
    raise TemplateRefused(str(message))


def _strftime_now(pattern: str) -> str:
    # The model's "today" is that of the place where it is served, as in transformers.
    return datetime.now().strftime(pattern)  # noqa: DTZ005


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja's own escapes HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
