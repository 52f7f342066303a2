"""The Dockerfile of the CUDA worker, read: its base image is too large to build here."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "worker-cuda.Dockerfile").read_text().replace("\\\n", " ")
FINAL = DOCKERFILE.rpartition("\nFROM ")[2]
#: The cache's volume, a volume of every pod, and what the image makes writable for group 0.
WRITABLE = ("/cache", "/tmp", "/home/sluice")


def variables() -> dict[str, str]:
    found = re.search(r"^ENV (.*)$", FINAL, re.MULTILINE)
    assert found
    return dict(pair.split("=", 1) for pair in found[1].split())


def test_what_it_installs_is_what_is_tested() -> None:
    tested = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==(\S+)", line):
            tested[match[1].lower().replace("_", "-")] = match[2]
    installed = dict(re.findall(r"([\w-]+)==(\S+)", FINAL))
    assert "grpcio-reflection" in installed
    for name, version in installed.items():
        assert tested[name] == version, name


def test_caches_and_home_are_where_its_user_may_write() -> None:
    found = variables()
    expected = {"HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "VLLM_CACHE_ROOT"}
    expected |= {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"}
    expected |= {"FLASHINFER_WORKSPACE_BASE"}
    assert expected <= set(found)
    for name, value in found.items():
        if value.startswith("/"):
            assert value.startswith(WRITABLE), name


def test_its_user_has_a_name_with_any_user_id() -> None:
    assert re.search(r"useradd --uid 10001 --gid 0 ", FINAL)
    assert variables()["USER"]
    assert "\nUSER 10001:0\n" in FINAL


def test_no_source_is_left_in_it() -> None:
    assert not re.search(r"^(COPY|ADD) ", FINAL, re.MULTILINE)
    assert "/src" not in FINAL
