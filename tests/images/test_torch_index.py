"""Where the CPU worker's Dockerfile takes PyTorch from: pip's own index, else TORCH_INDEX_URL."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("BASE_IMAGE", "localhost/sluice-base:bookworm")
WHEEL = "torch-2.13.0+cpu-py3-none-any.whl"


def build(folder: Path, *arguments: str, own: str = "file:///nothing") -> str:
    """What building the stage with PyTorch says, where pip's own index is ``own``."""
    settings = folder / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {own}\n")
    command = ("buildah", "build", "--isolation", "chroot", "--network", "host", "--no-cache")
    mounts = ("-v", f"{settings}:/etc/pip.conf:ro", "-v", f"{folder}:/index:ro")
    which = ("--target", "build", "-f", "docker/worker-cpu.Dockerfile")
    told = ("--build-arg", f"BASE_IMAGE={BASE}", *arguments)
    built = subprocess.run(
        [*command, *mounts, *which, *told, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode != 0
    return built.stdout + built.stderr


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The folder of a package index that has a PyTorch, of sorts."""
    project = tmp_path / "torch"
    project.mkdir()
    (project / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    info = "torch-2.13.0+cpu.dist-info"
    with zipfile.ZipFile(project / WHEEL, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return tmp_path


def test_without_a_wheel_or_an_index_the_build_says_what_to_set(tmp_path: Path) -> None:
    said = build(tmp_path)
    assert "was not found: set TORCH_INDEX_URL" in said
    assert "Successfully installed" not in said


def test_the_index_is_asked_when_pip_finds_no_wheel_itself(index: Path) -> None:
    said = build(index, "--build-arg", "TORCH_INDEX_URL=file:///index")
    assert "Successfully installed torch-2.13.0+cpu" in said


def test_the_index_is_not_asked_when_pip_finds_the_wheel_itself(index: Path) -> None:
    said = build(index, "--build-arg", "TORCH_INDEX_URL=file:///other", own="file:///index")
    assert "Successfully installed torch-2.13.0+cpu" in said
    assert "Looking in indexes: file:///other" not in said
