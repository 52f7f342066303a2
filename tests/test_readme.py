"""What the README says of settings and targets is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from sluice_gateway.settings import Settings as GatewaySettings
from sluice_worker.settings import FakeSettings
from sluice_worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def table(*kinds: type[BaseSettings]) -> list[str]:
    """The rows of the settings table, as the README has to have them."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for kind in kinds:
        prefix = kind.model_config.get("env_prefix", "")
        for name, field in kind.model_fields.items():
            if name != "fake":
                default = "" if field.default in (None, "", ()) else f"`{field.default}`"
                rows.append(f"| `{(prefix + name).upper()}` | {default} | {field.description} |")
    return rows


@pytest.mark.parametrize("kinds", [(WorkerSettings, FakeSettings), (GatewaySettings,)])
def test_the_settings_table_is_that_of_the_code(kinds: tuple[type[BaseSettings], ...]) -> None:
    expected = "\n".join(table(*kinds))
    assert expected in README, f"the README should have:\n{expected}"


def test_every_target_and_file_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / path).exists(), path
