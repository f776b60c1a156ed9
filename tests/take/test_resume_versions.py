"""Manifests and journals that the version before this one wrote: read, aligned and resumed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from asynccam.errors import ConnectionError
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import Event
from asynccam.model.manifest import MANIFEST_VERSION, Manifest, Outcome
from asynccam.take import TakeLimits, align_take, resume_take
from asynccam.take.store import read_journal, replay
from tests.support.command import asynccam

TAKES = Path(__file__).parent / "data" / "takes-version-1"
SHORT = TakeLimits(arm_timeout=1, stop_timeout=1, status_timeout=1)


class Nobody:
    """A session that reaches no camera."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {}

    async def connect(self, address: str, *, credentials: Credentials | None = None) -> Camera:
        raise ConnectionError(f"{address} refuses")

    def emit(self, event: Event) -> None:
        pass


async def test_version_1_manifest_is_written_back_unchanged() -> None:
    manifest = await Manifest.load(TAKES / "whole")
    assert (manifest.version, manifest.outcome) == (1, Outcome.COMPLETE)
    assert [one.begins_late for one in manifest.cameras] == [None, None]
    verdicts = [file.verdict for one in manifest.cameras for file in one.files]
    assert [None if one is None else one.verdict for one in verdicts] == ["complete", "complete"]
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest


@pytest.mark.parametrize("take", ["whole", "killed"])
def test_t0_computer_of_an_older_manifest_is_read_as_t0_local(take: str) -> None:
    text = (TAKES / take / "manifest.json").read_text()
    expected = json.loads(text)["start"]["t0_computer"]["unix"]
    manifest = Manifest.from_bytes(text.encode())
    assert manifest.start is not None
    assert manifest.start.t0_local.unix == expected
    written = manifest.to_bytes()
    assert b"t0_computer" not in written
    assert json.loads(written)["start"]["t0_local"]["unix"] == expected


def test_t0_computer_of_an_older_journal_is_read_as_t0_local() -> None:
    text = (TAKES / "killed" / "journal.jsonl").read_text()
    (released,) = (line for line in map(json.loads, text.splitlines()) if line["event"] == "released")
    progress = replay(None, read_journal(text.encode()), "killed")
    assert progress.manifest.start is not None
    assert progress.manifest.start.t0_local.unix == released["start"]["t0_computer"]["unix"]
    assert progress.t0 == released["start"]["t0_computer"]["unix"]


async def test_version_1_take_is_aligned() -> None:
    alignment = align_take(await Manifest.load(TAKES / "whole"))
    assert alignment.window is not None
    assert alignment.window.seconds > 1.0


async def test_version_1_take_is_aligned_by_the_command(tmp_path: Path) -> None:
    take = tmp_path / "take"
    shutil.copytree(TAKES / "whole", take)
    ended = await asynccam("align", take, "--json")
    assert ended.code == 0, ended


@pytest.mark.parametrize("lost", [None, "manifest.json", "journal.jsonl"])
async def test_version_1_take_is_resumed_as_this_version(tmp_path: Path, lost: str | None) -> None:
    take = tmp_path / "take"
    shutil.copytree(TAKES / "killed", take)
    if lost is not None:
        (take / lost).unlink()
    manifest = await resume_take(take, Nobody(), limits=SHORT)
    assert manifest.version == MANIFEST_VERSION
    assert len(manifest.cameras) == 2
    assert manifest.outcome is not Outcome.RUNNING
    assert (await Manifest.load(take)).version == MANIFEST_VERSION
