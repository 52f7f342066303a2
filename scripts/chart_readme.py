"""Makes the chart's README from the comments in its values.yaml.

``python scripts/chart_readme.py`` writes it; ``--check`` says whether it is fresh.

What it reads: the comment right above a key is about that key; ``## Title`` begins a section; a
comment that is followed by an empty line is about the file; ``@raw`` at a comment's end says that
the value goes into the manifest as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "sluice"
RAW = "@raw"

_KEY = re.compile(r"(?P<indent> *)(?P<name>[\w.-]+):(?:\s|$)")


@dataclass
class Option:
    """A key of values.yaml: its path, its default and what is said of it."""

    path: tuple[str, ...]
    default: Any
    text: list[str]

    @property
    def is_leaf(self) -> bool:
        """Whether it has a default to show: maps with keys of their own have none."""
        return self.raw or not (isinstance(self.default, dict) and self.default)

    @property
    def raw(self) -> bool:
        """Whether the value goes into the manifest as it is."""
        return bool(self.text) and self.text[-1].endswith(RAW)

    def row(self) -> str:
        """A row of the table."""
        words = " ".join(self.text).removesuffix(RAW).strip()
        if self.raw:
            words = f"{words} Raw." if words else "Raw."
        default = ""
        if self.is_leaf:
            compact = json.dumps(self.default, ensure_ascii=False)
            default = f"`{compact}`"
        cells = (f"`{'.'.join(self.path)}`", default, words)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@dataclass
class Section:
    """A titled part of values.yaml."""

    title: str
    options: list[Option] = field(default_factory=list)


def sections(source: str) -> Iterator[Section]:
    """The sections of values.yaml, in their order."""
    defaults = yaml.safe_load(source)
    section: Section | None = None
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    closed_above = 0  # deeper lines belong to a raw value and are no options
    for line in source.splitlines():
        if line.startswith("## "):
            if section:
                yield section
            section, comment = Section(line[3:]), []
        elif not line.strip():
            comment = []
        elif line.lstrip().startswith("#"):
            comment.append(line.lstrip()[1:].removeprefix(" "))
        elif (match := _KEY.match(line)) and section:
            indent = len(match["indent"])
            if closed_above and indent >= closed_above:
                continue
            path = [(at, name) for at, name in path if at < indent] + [(indent, match["name"])]
            option = _option([name for _, name in path], defaults, comment)
            section.options.append(option)
            closed_above, comment = (indent + 1 if option.raw else 0), []
    if section:
        yield section


def _option(path: list[str], defaults: Any, comment: list[str]) -> Option:
    default = defaults
    for name in path:
        default = default[name]
    return Option(tuple(path), default, list(comment))


def readme(source: str, chart: dict[str, Any]) -> str:
    """The README's text."""
    parts = [_HEAD.format(**chart)]
    for section in sections(source):
        parts.append(f"## {section.title}\n")
        for option in section.options:
            if len(option.path) == 1 and not option.is_leaf:
                # The examples in it are indented: a paragraph and not a cell.
                parts += ["\n".join(option.text), ""]
                section.options = [other for other in section.options if other is not option]
        parts += ["| value | default | meaning |", "|---|---|---|"]
        parts += [option.row() for option in section.options if option.is_leaf or option.text]
        parts.append("")
    return "\n".join(parts)


_HEAD = """<!-- Made by scripts/chart_readme.py from values.yaml. Change that one. -->

# The chart {name}

{description}.
For Kubernetes {oldest} or newer; tested with Helm 4.

```sh
helm install sluice deploy/helm/sluice
```

installs two gateways and a worker with the demo model: no GPU, no token, no download. It needs the
images `sluice-gateway` and `sluice-worker-cpu` where the cluster can pull them, or loaded into it.
[docs/operations.md](../../../docs/operations.md) tells how to serve models with it;
[ci/](ci) has a values file for each of the usual cases.

`Raw.` below means that a value goes into the manifest as it is, so that everything that Kubernetes
takes there can be said. All else is checked: a name that the chart does not know is refused.
"""


def main(arguments: list[str]) -> int:
    """Write the README, or check that it is fresh. 1: it is not."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    chart["oldest"] = chart["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    text = readme((CHART / "values.yaml").read_text(), chart)
    path = CHART / "README.md"
    if "--check" in arguments:
        fresh = path.is_file() and path.read_text() == text
        if not fresh:
            print("the chart's README is stale: run 'make chart-readme'", file=sys.stderr)
        return 0 if fresh else 1
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
