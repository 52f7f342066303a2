"""This machine's pip settings as a pip.conf; with ``--folders``, the folders that one names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def settings() -> dict[str, str]:
    """What ``pip config list`` tells: of files, and of the environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        key = re.sub(r"^(global|install|:env:)\.", "", name)
        found[key] = value.strip("'\"")
    return found


def folders(text: str) -> list[str]:
    """The local folders that a pip.conf names. An index's files may lie beside it."""
    indexes = {Path(word).parent for word in re.findall(r"file://(/[^\s'\"]+)", text)}
    plain = {Path(word) for word in re.findall(r"(?<!file://)(?<=[\s=])(/[^\s'\"]+)", text)}
    return sorted(str(path) for path in indexes | plain if path.is_dir())


if __name__ == "__main__":
    if sys.argv[1:] == ["--folders"]:
        print("\n".join(folders(sys.stdin.read())))
    else:
        print("[global]")
        print("\n".join(f"{name} = {value}" for name, value in settings().items()))
