"""``asynccam record --all``: which cameras it takes.

What discovery finds is scripted: on a network that other tests share, all of it would be recorded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asynccam.cli.commands.record import CameraSelection, select_cameras
from asynccam.cli.output import Output
from asynccam.errors import NotFoundError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.session import Fleet, Session
from tests.support.command import asynccam
from tests.support.mediamtx_service import simulator
from tests.support.multicam_device import CUT, BytesRecorder, running


class Finder(Session):
    """A session that finds one device, at an address that it is told."""

    address = ""

    async def discover(self, **options: Any) -> list[Camera]:
        return [await self.connect(self.address)] if self.address else []


def which(uris: Sequence[str], discover: float | None, token: str | None = None) -> CameraSelection:
    return CameraSelection(uris, Credentials(token) if token else None, discover)


async def test_select_cameras_all_selects_each_once(tmp_path: Path) -> None:
    output = Output(json=True)
    async with (
        running(tmp_path / "device") as device,
        simulator(2, directory=tmp_path) as service,
        Finder() as session,
    ):
        session.address = f"multicam://127.0.0.1:{device.port}"
        there = f"mediamtx://{service.host}:{service.port}"
        found = await select_cameras(
            session, which([there, session.address], 1.0, service.token("admin")), output
        )
    assert [camera.info.system for camera in found] == ["mediamtx", "mediamtx", "multicam"]
    assert len({camera.id for camera in found}) == 3


async def test_select_cameras_without_all(tmp_path: Path) -> None:
    async with running(tmp_path / "device") as device, Finder() as session:
        session.address = "multicam://127.0.0.1:1"
        (camera,) = await select_cameras(
            session, which([f"multicam://127.0.0.1:{device.port}"], None), Output(json=True)
        )
        assert camera.info.serial == device.device_id


async def test_select_cameras_none_found_or_named() -> None:
    async with Finder() as session:
        with pytest.raises(NotFoundError, match="no camera answered"):
            await select_cameras(session, which([], 0.5), Output(json=True))
        with pytest.raises(UsageError, match="--all"):
            await select_cameras(session, which([], None), Output(json=True))


async def test_record_without_cameras(tmp_path: Path) -> None:
    ended = await asynccam("record", "--duration", 1, "--to", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "--all" in ended.err


async def test_record_fleet_uses_its_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path / "device") as device, simulator(2, directory=tmp_path) as service:
        monkeypatch.setenv("LAB_TOKEN", service.token("admin"))
        one = f"multicam://127.0.0.1:{device.port}"
        fleet = Fleet.parse(
            f'[[camera]]\naddress = "{one}"\nlabel = "hill"\n'
            f'[[camera]]\naddress = "mediamtx://{service.host}:{service.port}"\ntoken_env = "LAB_TOKEN"\n'
        )
        async with Finder() as session:
            found = await select_cameras(session, which([one], None), Output(json=True), fleet.places)
        async with Finder() as session:
            same = await select_cameras(session, which([], 0.5), Output(json=True), fleet.places)
    assert [camera.info.system for camera in found] == ["multicam", "mediamtx", "mediamtx"]
    assert {camera.id for camera in same} == {camera.id for camera in found}


async def test_record_reports_mistakes_in_a_fleet(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[session]\ninterfaces = ["127.0.0.1"]\n[[camera]]\naddress = "multicamm://h"\n')
    line = ("record", "--fleet", fleet, "--duration", 0.2, "--start-in", 0.2, "--to", tmp_path, "--json")
    ended = await asynccam(*line)
    assert (ended.code, ended.out) == (2, "")
    assert "fleet.toml:4" in ended.err
    async with running(tmp_path / "device", BytesRecorder(CUT)) as device:
        fleet.write_text(f'[[camera]]\naddress = "multicam://127.0.0.1:{device.port}"\n')
        ended = await asynccam(*line)
    assert [camera["serial"] for camera in ended.json()["manifest"]["cameras"]] == [device.device_id]
    assert ended.code == 8  # what the device here hands out is cut off
