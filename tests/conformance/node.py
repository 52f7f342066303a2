"""Runs the scripts of js/ in Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.processes import Gateway
from tests.stream_rules import check_stream

HERE = Path(__file__).parent / "js"


def run(script: str, front: Gateway) -> dict[str, Any]:
    """What a script found out about a gateway that serves the demo model.

    The streams that it read are checked as all others are.
    """
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
    found: dict[str, Any] = json.loads(ended.stdout)
    for stream in found["streams"]:
        check_stream(stream["path"], stream["request"], stream["text"].encode())
    result: dict[str, Any] = found["result"]
    return result
