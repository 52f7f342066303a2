"""What comes out does not depend on the CPU: on workers of two kinds a stream may go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import sluice_kernels

from tests.worker.hf.conftest import Zoo, skip_without_kernels

_PROGRAM = """
import json, sys
from pathlib import Path
import torch
from sluice_worker.engines.hf import HfOptions, load
from tests.worker.hf.driver import Stepper, request

path, kernels = sys.argv[1:]
engine = load(HfOptions(Path(path), num_threads=2, kernels=kernels), lambda *news: None)
stepper = Stepper(engine)
ways = [
    {},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 20, "min_p": 0.02},
    {"temperature": 0.9, "repetition_penalty": 1.3, "presence_penalty": 0.4},
    {"temperature": 1.1, "frequency_penalty": 0.7, "logit_bias": {5: 2.5}, "top_p": 0.5},
]
for i in range(24):
    prompt = [(7 * i + at) % 96 for at in range(3 + 5 * i)]
    what = request(prompt, i, seed=i, max_tokens=60, ignore_eos=True, **ways[i % len(ways)])
    stepper.submit(what)
results = stepper.run()
print(json.dumps([torch.backends.cpu.get_cpu_capability(), engine.model.fingerprint]))
print(json.dumps([results.tokens[i] for i in range(24)]))
engine.close()
"""


def tokens_on(path: str, capability: str, kernels: str) -> tuple[str, str, Any]:
    """The instructions that torch used, the fingerprint and the tokens, with some instructions."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-c", _PROGRAM, path, kernels]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    names, tokens = done.stdout.splitlines()[-2:]
    used, fingerprint = json.loads(names)
    return used, fingerprint, json.loads(tokens)


@pytest.mark.parametrize("kind", ["llama-group4", "qwen3"])
def test_torch_and_the_kernels_with_other_instructions_give_the_same_tokens(
    kind: str, zoo: Zoo
) -> None:
    path = str(zoo.path(kind))
    skip_without_kernels()
    fastest = sluice_kernels.fastest()
    torch_best, fingerprint, tokens = tokens_on(path, fastest, fastest)
    torch_least, other_fingerprint, other_tokens = tokens_on(path, "default", "avx2")
    assert torch_least == "DEFAULT" != torch_best
    assert len({tuple(row) for row in tokens}) > 20
    assert other_tokens == tokens
    assert other_fingerprint == fingerprint
