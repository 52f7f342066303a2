"""Downloads that are killed (SIGKILL) at any moment: the next run goes on, unattended."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.worker.weights.downloads import Downloads, Zygote, digests_of, downloading

KILLS = 100
SIZES = (500_000, 600_000, 700_000)
BYTES_PER_SECOND = 3_000_000

#: What can be on its way when a process dies: a few pieces, in the sockets' buffers.
SLACK = 100_000


def verified(downloads: Downloads) -> set[str]:
    """The files whose hash is known to be right: they must not be asked for again."""
    records = {path.stem for path in downloads.own.glob("verified/[!.]*.json")}
    files = (path for path in downloads.snapshot.glob("[!.]*") if path.exists())
    return {path.name for path in files if records & set(digests_of(path))}


class Asked:
    """Watches that what was verified is not asked for again."""

    def __init__(self, downloads: Downloads) -> None:
        self._downloads = downloads
        self._counts: dict[str, int] = {}

    def look(self) -> None:
        hub = self._downloads.hub
        for name, count in self._counts.items():
            assert len(hub.downloads(name)) == count, f"{name} was verified and is fetched again"
        self._counts = {name: len(hub.downloads(name)) for name in verified(self._downloads)}


def test_a_hundred_kills_lose_nothing_and_publish_nothing_wrong(
    tmp_path: Path, zygote: Zygote
) -> None:
    moments = random.Random(3)
    kills, lives = 0, 0
    while kills < KILLS:
        lives += 1
        with downloading(tmp_path / str(lives), zygote, *SIZES) as downloads:
            downloads.hub.faults.bytes_per_second = BYTES_PER_SECOND
            asked, in_this_life = Asked(downloads), 0
            while kills < KILLS:
                run = downloads.start()
                time.sleep(moments.uniform(0.03, 0.27))
                run.kill()
                if run.wait() == 0:
                    break
                kills += 1
                in_this_life += 1
                downloads.check_published()
                asked.look()
            downloads.succeed()
            asked.look()
            sizes = {path.name: path.stat().st_size for path in downloads.model.iterdir()}
            extra = Counter(downloads.hub.sent)
            extra.subtract(sizes)
            del extra[""]
            assert max(extra.values()) <= SLACK * (in_this_life + 1)
            assert sum(map(max, extra.values(), [0] * len(extra))) <= SLACK * (in_this_life + 1)
    assert lives >= 3


@pytest.mark.parametrize("part", range(4))
def test_a_kill_before_any_change_of_the_disk_is_recovered_from(
    tmp_path: Path, zygote: Zygote, part: int
) -> None:
    step = part
    while True:
        with downloading(tmp_path / str(step), zygote, 120_000) as downloads:
            (downloads.model / "tokenizer.json").unlink()
            run = downloads.start(patches=(f"die at step {step}",), DOWNLOAD_CONNECTIONS="1")
            status = run.wait()
            downloads.check_published()
            if status == 0:
                break
            assert status == -9, run.text
            asked = Asked(downloads)
            asked.look()
            downloads.succeed()
            asked.look()
        step += 4
    assert step > 30  # there are some dozens of changes, each of them was tried
