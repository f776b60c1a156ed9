"""Cameras that return broken pictures: one more capture, then an error."""

import io
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from asynccam.errors import DeviceError, RecordingError
from asynccam.recording.containers.jpeg import find_picture
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from asynccam.systems.snapshot.server.app import SnapshotWeb
from tests.support.jpegs import BROKEN, NONE, WHOLE, jpeg_of_kind, noise, picture_in
from tests.support.snapshot_service import Rig, rig

GOOD = noise(7)
SPOILED = (*BROKEN, "raw", "page")


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as one:
        yield one


def camera(one: Rig, name: str, *kinds: str, **fields: Any) -> dict[str, Any]:
    """A camera that gives these kinds one after the other; ``good`` is a whole picture."""
    frames = [GOOD if kind == "good" else jpeg_of_kind(kind) for kind in kinds]
    # More than what counts as nothing at all, whatever the kind.
    frames = [frame if len(frame) >= 1000 or not frame else frame + bytes(1000) for frame in frames]
    return one.camera(name, ways={"frames": frames}, **fields)


@pytest.mark.parametrize("kind", WHOLE)
async def test_whole_picture_is_kept_from_its_first_byte(one: Rig, kind: str) -> None:
    one.configure(camera(one, "a", kind))
    async with one.service() as service:
        shot = await service.capture("a")
        data = (await service.store.path_of(shot.filename)).read_bytes()
        small = await service.store.thumbnail(shot.filename, side=32)
    assert data == picture_in(kind)
    assert shot.size == len(data)
    assert len(one.devices.captures) == 1
    for picture in (data, small):
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    assert one.pictures == [shot.filename]


@pytest.mark.parametrize("kind", SPOILED)
async def test_broken_picture_is_taken_once_more(
    one: Rig, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    one.configure(camera(one, "a", kind, "good"))
    async with one.service() as service:
        with caplog.at_level(logging.WARNING):
            shot = await service.capture("a")
        assert (await service.store.path_of(shot.filename)).read_bytes() == GOOD
        assert service.state_of("a").error is None
    assert len(one.devices.captures) == 2
    assert one.pictures == [shot.filename]
    assert "once more" in caplog.text


@pytest.mark.parametrize("kind", SPOILED)
async def test_two_broken_pictures_raise(one: Rig, kind: str) -> None:
    one.configure(camera(one, "a", kind))
    async with one.service() as service:
        with pytest.raises(RecordingError, match=r"broken picture: it .*second|not a JPEG.*second") as raised:
            await service.capture("a")
        assert service.state_of("a").error == str(raised.value)
    assert len(one.devices.captures) == 2
    assert one.pictures == []


async def test_short_picture_is_taken_once_more(one: Rig) -> None:
    one.configure(one.camera("a", ways={"frames": [GOOD[:999], GOOD]}))
    async with one.service() as service:
        shot = await service.capture("a")
        assert shot.size == len(GOOD)
    assert len(one.devices.captures) == 2


async def test_second_capture_shares_the_service_stop(one: Rig) -> None:
    fields = {"type": "stream_interrupt", "service_name": "streamer.service"}
    one.configure(camera(one, "a", "cut60", "good", **fields), camera(one, "b", "noeoi", **fields))
    async with one.service() as service:
        await service.capture("a")
        assert one.devices.calls == [("stop", "streamer.service"), ("restart", "streamer.service")]
        with pytest.raises(RecordingError):
            await service.capture("b")
    assert one.devices.calls == [("stop", "streamer.service"), ("restart", "streamer.service")] * 2


@pytest.mark.parametrize("stereo", [False, True])
async def test_broken_camera_does_not_affect_others(one: Rig, stereo: bool) -> None:
    one.configure(
        camera(one, "whole", "good", stereo=True),
        camera(one, "mended", "grey", "good", stereo=True),
        camera(one, "broken", "twosoi", stereo=True),
    )
    async with one.service() as service:
        results = await (service.capture_stereo() if stereo else service.capture_all())
        whole, mended, broken = results
        assert whole.shot is not None
        assert mended.shot is not None
        assert (await service.store.path_of(mended.shot.filename)).read_bytes() == GOOD
        assert broken.shot is None
        assert broken.error is not None
        assert "broken picture" in broken.error
    assert len(one.devices.captures) == 5
    assert len(one.pictures) == 2


async def test_stereo_chain_continues_after_broken_picture(one: Rig) -> None:
    first = camera(one, "a", "cut60", "good", stereo=True)
    one.configure(first, {**first, "name": "b"})
    async with one.service() as service:
        a, b = await service.capture_stereo()
    assert a.shot is not None
    assert b.shot is not None
    assert a.shot.taken_at <= b.shot.taken_at
    assert len(one.devices.captures) == 3


# -- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture
async def url(one: Rig) -> AsyncIterator[str]:
    one.configure(
        camera(one, "mended", "noeoi", "good"),
        camera(one, "broken", "cut60"),
        camera(one, "lead", "leadjunk"),
    )
    async with one.service() as service, SnapshotWeb(service) as web:
        yield web.url


async def test_every_api_reports_broken_picture(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/api/snapshot/broken") as answer:
            assert answer.status == 500
            told = await answer.json()
            assert told["success"] is False
            assert "broken picture: it is cut off" in told["error"]
        async with http.post("/ui/snapshot/broken") as answer:
            told = await answer.json()
            assert told["success"] is False
            assert "broken picture" in told["error"]
        async with http.post("/api/v1/cameras/broken/captures") as answer:
            told = await answer.json()
            assert (answer.status, told["code"]) == (502, "capture_failed")
            assert "broken picture" in told["detail"]
        async with http.post("/api/snapshot/all") as answer:
            results = {one["camera_name"]: one for one in (await answer.json())["results"]}
            assert {name: one["status"] for name, one in results.items()} == {
                "mended": "success",
                "broken": "failure",
                "lead": "success",
            }
            assert "broken picture" in results["broken"]["error"]


async def test_client_downloads_the_stored_picture(url: str, tmp_path: Path) -> None:
    async with SnapshotClient(base_url=url) as client:
        mended = await client.snapshot("mended", tmp_path / "home")
        assert mended.path.read_bytes() == GOOD
        lead = await client.snapshot("lead", tmp_path / "home")
        assert lead.path.read_bytes() == picture_in("leadjunk")
        with pytest.raises(SnapshotClientError, match="broken picture"):
            await client.snapshot("broken", tmp_path / "home")
    assert len(list((tmp_path / "home").iterdir())) == 2


# -- pictures that others put there --------------------------------------------------------------


@pytest.mark.parametrize("kind", WHOLE)
async def test_thumbnail_of_foreign_picture(one: Rig, kind: str) -> None:
    async with one.service() as service:
        (one.directory / "pictures" / "other.jpg").write_bytes(jpeg_of_kind(kind))
        small = await service.store.thumbnail("other.jpg", side=32)
    assert not find_picture(small).flaw


@pytest.mark.parametrize("kind", [*BROKEN, *NONE])
async def test_thumbnail_refuses_broken_picture(one: Rig, kind: str) -> None:
    async with one.service() as service:
        path = one.directory / "pictures" / "other.jpg"
        path.write_bytes(GOOD)
        await service.store.thumbnail("other.jpg")
        path.write_bytes(jpeg_of_kind(kind))
        with pytest.raises(DeviceError, match=r"other\.jpg is not a complete picture"):
            await service.store.thumbnail("other.jpg")


async def test_replaced_picture_is_checked_again(one: Rig) -> None:
    one.configure(camera(one, "a", "good"))
    async with one.service() as service:
        shot = await service.capture("a")
        (one.directory / "pictures" / shot.filename).write_bytes(jpeg_of_kind("cut60end"))
        with pytest.raises(DeviceError, match="not a complete picture"):
            await service.store.thumbnail(shot.filename)
