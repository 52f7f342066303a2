"""Runs the scripts of js/ in Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.processes import Gateway

HERE = Path(__file__).parent / "js"


def run(script: str, front: Gateway) -> dict[str, Any]:
    """What a script found out about a gateway that serves the demo model."""
    ended = subprocess.run(
        ["node", script],
        cwd=HERE,
        env={**os.environ, "BASE_URL": f"{front.url}/v1", "MODEL": "sluice-demo"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)["result"]
    return found
