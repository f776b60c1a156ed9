"""Digests of a take's files by each algorithm: in the manifest, and when the take is resumed."""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path

import pytest

from asynccam import Session
from asynccam.errors import UsageError
from asynccam.model.digest import DigestName
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile, MediaFile
from asynccam.model.manifest import FileRecord, FileState, Manifest
from asynccam.take import Take, resume_take
from tests.support.digests import digest_of
from tests.support.scripted_camera import ScriptedCamera, ScriptedStillCamera, hang
from tests.support.waiting import eventually

NAMES: tuple[DigestName | None, ...] = ("sha256", "blake3", "xxh3", None)


def expected(name: DigestName | None, data: bytes) -> tuple[str | None, str | None]:
    """Fields ``sha256`` and ``digest`` of a file."""
    if name is None:
        return None, None
    value = digest_of(name, data)
    return (value, None) if name == "sha256" else (None, f"{name}:{value}")


def found(file: FileRecord) -> tuple[str | None, str | None]:
    return file.sha256, file.digest


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("name", NAMES)
async def test_take_has_digests_of_one_algorithm(
    tmp_path: Path, name: DigestName | None, local: bool
) -> None:
    camera = ScriptedCamera("one", local=local)
    async with Session() as session:
        session.add(camera)
        take = await session.take(duration=0.05, start_in=0, directory=tmp_path, digest=name)
    assert take.ok
    manifest = await Manifest.load(take.directory)
    assert manifest.digest == name
    (file,) = manifest.cameras[0].files
    data = camera.contents["video.mp4"]
    assert (file.state, file.size) == (FileState.ARRIVED, len(data))
    assert found(file) == expected(name, data)
    document = json.loads((take.directory / "manifest.json").read_bytes())
    written = document["cameras"][0]["files"][0]
    assert (written["sha256"], written["digest"]) == expected(name, data)


@pytest.mark.parametrize("name", NAMES)
async def test_take_has_digests_of_pictures(tmp_path: Path, name: DigestName | None) -> None:
    take = await Take([ScriptedStillCamera("still", content=b"jpeg")], tmp_path, digest=name).run(
        duration=0.05, start_in=0
    )
    (file,) = (await Manifest.load(take.directory)).cameras[0].files
    assert found(file) == expected(name, b"jpeg")


async def test_take_without_the_package_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(UsageError, match=r"asynccam\[speed\]"):
        Take([ScriptedCamera("one")], tmp_path, digest="blake3")


async def test_take_by_default_asks_a_camera_for_no_digest(tmp_path: Path) -> None:
    class Older(ScriptedCamera):
        """A camera of another package, from before there was a choice."""

        async def download(  # type: ignore[override]
            self, file: MediaFile | str, directory: Path, *, progress: Progress | None = None
        ) -> LocalFile:
            return await super().download(file, directory, progress=progress)

    take = await Take([Older("older")], tmp_path).run(duration=0.05, start_in=0)
    assert take.ok


async def killed(tmp_path: Path, camera: ScriptedCamera, name: DigestName | None) -> Path:
    """Return the directory of a take whose process died after its cameras had stopped."""
    camera.script["download"] = hang
    take = Take([camera], tmp_path, digest=name)
    running = asyncio.create_task(take.run(duration=0.05, start_in=0))
    await eventually(lambda: "download" in camera.calls)
    copy = tmp_path / "killed"
    # Without the files that are about to be renamed.
    await asyncio.to_thread(shutil.copytree, take.directory, copy, ignore=shutil.ignore_patterns(".*"))
    await take.abort()
    running.cancel()
    await asyncio.wait({running})
    del camera.script["download"]
    return copy


@pytest.mark.parametrize("lost", [None, "manifest.json"])
@pytest.mark.parametrize("name", NAMES)
async def test_resumed_take_goes_on_with_its_algorithm(
    tmp_path: Path, name: DigestName | None, lost: str | None
) -> None:
    camera = ScriptedCamera("one")
    directory = await killed(tmp_path, camera, name)
    if lost is not None:
        (directory / lost).unlink()
    async with Session() as session:
        session.add(camera)
        manifest = await resume_take(directory, session)
    (file,) = manifest.cameras[0].files
    assert manifest.digest == name
    assert found(file) == expected(name, camera.contents["video.mp4"])


@pytest.mark.parametrize("what", ["package", "algorithm"])
async def test_resumed_take_without_its_algorithm_has_sha256(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    camera = ScriptedCamera("one")
    directory = await killed(tmp_path, camera, "xxh3")
    if what == "package":
        monkeypatch.setitem(sys.modules, "xxhash", None)
    else:  # of a later version
        for path in ("manifest.json", "journal.jsonl"):
            text = (directory / path).read_text()
            assert '"xxh3"' in text
            (directory / path).write_text(text.replace('"xxh3"', '"xxh7"'))
    async with Session() as session:
        session.add(camera)
        with caplog.at_level(logging.WARNING):
            manifest = await resume_take(directory, session)
    (file,) = manifest.cameras[0].files
    assert found(file) == expected("sha256", camera.contents["video.mp4"])
    assert "files get SHA-256 digests" in caplog.text


async def test_manifest_from_before_there_was_a_choice(tmp_path: Path) -> None:
    take = await Take([ScriptedCamera("one")], tmp_path).run(duration=0.05, start_in=0)
    document = json.loads((take.directory / "manifest.json").read_bytes())
    del document["digest"], document["cameras"][0]["files"][0]["digest"]
    manifest = Manifest.from_bytes(json.dumps(document).encode())
    assert manifest.digest == "sha256"
    assert manifest.cameras[0].files[0].digest is None
