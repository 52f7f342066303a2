"""The pip settings of this machine as a pip.conf; with ``--paths``, what is named in one."""

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


#: What a build has anyway.
_CERTIFICATES = Path("/etc/ssl/certs")


def paths(text: str) -> list[str]:
    """The local folders and files that a pip.conf names. An index's files may lie beside it."""
    indexes = {Path(word).parent for word in re.findall(r"file://(/[^\s'\"]+)", text)}
    plain = {Path(word) for word in re.findall(r"(?<!file://)(?<=[\s=])(/[^\s'\"]+)", text)}
    named = {path for path in indexes | plain if path.exists()}
    return sorted(str(path) for path in named if not path.is_relative_to(_CERTIFICATES))


if __name__ == "__main__":
    if sys.argv[1:] == ["--paths"]:
        print("\n".join(paths(sys.stdin.read())))
    else:
        print("[global]")
        print("\n".join(f"{name} = {value}" for name, value in settings().items()))
