"""Finds out from a template how it reads the content of a message.

The question and the way to answer it are vLLM's: a template that loops over the parts of a
content wants parts, any other wants a string.
"""

from __future__ import annotations

from typing import Literal

from jinja2 import nodes

ContentFormat = Literal["string", "parts"]


def content_format(tree: nodes.Template) -> ContentFormat:
    """Say "parts" if the template loops over the content of a message, else "string"."""
    names = _Names(tree)
    loops = tree.find_all(nodes.For)
    return "parts" if any(names.is_content(loop.iter) for loop in loops) else "string"


class _Names:
    """The variables of a template that hold messages, one message, or a message's content.

    Scopes are ignored: a name that holds a content anywhere counts everywhere.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self._lists = {"messages"}
        self._messages: set[str] = {"message"}
        self._contents: set[str] = set()
        self._macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
        # What a name holds may depend on what another holds: go on until nothing is new.
        size = 0
        while size != (size := self._size()):
            self._look(tree)
            if self._size() == size:
                break

    def is_content(self, node: nodes.Node | None) -> bool:
        """Whether the expression is a message's content, or parts chosen from it."""
        if isinstance(node, nodes.Name):
            return node.name in self._contents
        if isinstance(node, (nodes.Getattr, nodes.Getitem)):
            return _key(node) == "content" and self._is_message(node.node)
        if isinstance(node, nodes.Filter):
            return self.is_content(node.node)
        if isinstance(node, nodes.CondExpr):
            return self.is_content(node.expr1) or self.is_content(node.expr2)
        return False

    def _is_message(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Name):
            return node.name in self._messages
        return isinstance(node, nodes.Getitem) and self._is_list(node.node)

    def _is_list(self, node: nodes.Node | None) -> bool:
        if isinstance(node, nodes.Name):
            return node.name in self._lists
        if isinstance(node, nodes.Getitem):  # a slice; one message is _is_message's
            return isinstance(node.arg, nodes.Slice) and self._is_list(node.node)
        return isinstance(node, nodes.Filter) and self._is_list(node.node)

    def _look(self, tree: nodes.Template) -> None:
        for loop in tree.find_all(nodes.For):
            if self._is_list(loop.iter):
                self._note(loop.target, self._messages)
        for assign in tree.find_all(nodes.Assign):
            self._note_value(assign.target, assign.node)
        for call in tree.find_all(nodes.Call):
            macro = self._macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
            if macro is not None:
                for parameter, value in zip(macro.args, call.args, strict=False):
                    self._note_value(parameter, value)

    def _note_value(self, target: nodes.Node, value: nodes.Node) -> None:
        if self._is_list(value):
            self._note(target, self._lists)
        elif self._is_message(value):
            self._note(target, self._messages)
        elif self.is_content(value):
            self._note(target, self._contents)

    def _note(self, target: nodes.Node, names: set[str]) -> None:
        if isinstance(target, nodes.Name):
            names.add(target.name)

    def _size(self) -> int:
        return len(self._lists) + len(self._messages) + len(self._contents)


def _key(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None
