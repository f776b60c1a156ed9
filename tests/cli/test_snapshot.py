"""The commands on a Snapshot server whose cameras give broken pictures."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.command import asynccam
from tests.support.jpegs import jpeg_of_kind, picture_in
from tests.support.snapshot_field_server import in_the_field


async def test_snapshot_downloads_the_whole_picture(tmp_path: Path) -> None:
    async with in_the_field() as field:
        field.pictures["left"] = jpeg_of_kind("leadjunk")
        uri = f"snapshot://127.0.0.1:{field.port}/left"
        ended = await asynccam("snapshot", uri, "--to", tmp_path, "--json")
    assert (ended.code, ended.err) == (0, "")
    (picture,) = tmp_path.iterdir()
    assert await asyncio.to_thread(picture.read_bytes) == picture_in("leadjunk")
    file = ended.json()["file"]
    assert (file["path"], file["size"]) == (str(picture), len(picture_in("leadjunk")))


@pytest.mark.parametrize("kind", ["cut60", "twosoi"])
async def test_snapshot_damaged_picture_is_kept_and_reported(tmp_path: Path, kind: str) -> None:
    async with in_the_field() as field:
        field.pictures["left"] = jpeg_of_kind(kind)
        ended = await asynccam("snapshot", f"snapshot://127.0.0.1:{field.port}/left", "--to", tmp_path)
    assert (ended.code, ended.out) == (8, "")
    (part,) = tmp_path.iterdir()
    assert part.suffix == ".part"
    assert ended.err.startswith("asynccam:")
    assert "is a broken picture: it " in ended.err
    assert str(part) in ended.err


@pytest.mark.parametrize(
    ("kind", "word"), [("ok", "complete"), ("noeoi", "truncated"), ("twosoi", "damaged")]
)
async def test_record_shows_the_verdict_of_a_picture(tmp_path: Path, kind: str, word: str) -> None:
    async with in_the_field() as field:
        field.pictures["left"] = jpeg_of_kind(kind)
        uri = f"snapshot://127.0.0.1:{field.port}/left"
        line = ("record", uri, "--duration", "0.1", "--start-in", "0.1", "--to", tmp_path)
        ended = await asynccam(*line)
    assert ended.code == (0 if word == "complete" else 8)
    assert word in ended.out + ended.err
    (path,) = tmp_path.glob("*/manifest.json")
    (camera,) = json.loads(await asyncio.to_thread(path.read_text))["cameras"]
    (file,) = camera["files"]
    assert file["verdict"]["verdict"] == word
    assert (path.parent / file["path"]).suffix == ".jpg"
