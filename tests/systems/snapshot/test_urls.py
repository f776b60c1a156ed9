"""Addresses of cameras, as camera, session and command line accept them."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccam import CameraTarget, Session, SnapshotCamera, SnapshotClient, errors
from asynccam.model.address import Address
from asynccam.systems.snapshot.camera import base_url_of
from tests.support.command import asynccam
from tests.support.snapshot_field_server import FieldServer, camera, in_the_field, jpeg
from tests.support.waiting import eventually

NAMES = ["left", "a/b", "cams", "Süd Hof", "100%", "a%2Fb", ".", "..", "x@y", "?#", "😀", " "]


@pytest.fixture
async def field() -> AsyncIterator[FieldServer]:
    """A server below a path, with cameras of odd names."""
    async with in_the_field(FieldServer(base="/cams/süd")) as server:
        server.cameras = [camera(name) for name in NAMES]
        yield server


async def test_address_by_the_camera(field: FieldServer) -> None:
    async with SnapshotClient(base_url=field.url) as client:
        assert client.address == f"snapshot://127.0.0.1:{field.port}/cams/s%C3%BCd/"
        told = [one.info for one in await SnapshotCamera.all_of(client)]
    for info, name in zip(told, NAMES, strict=True):
        assert info.id == info.address == client.address_of(name)
        one = await SnapshotCamera.connect(info.address)
        assert (one.info.name, one.info.id) == (name, info.id)
        await one.aclose()


async def test_address_by_a_session(field: FieldServer, tmp_path: Path) -> None:
    async with Session() as session:
        service = SnapshotClient(base_url=field.url).address
        behind = await session.list_cameras(service)
        assert [info.name for info in behind] == NAMES
        cameras = await session.connect_all([info.address for info in behind])
        assert [one.info for one in cameras] == behind
        one = await session.connect(behind[0].id)
        assert one is cameras[0]
        take = await session.take([one], duration=0.01, start_in=0.01, directory=tmp_path)
        assert take.ok


async def test_address_of_a_server_by_a_session(field: FieldServer) -> None:
    field.cameras = [camera("left")]
    service = SnapshotClient(base_url=field.url).address
    async with Session.open(service, mdns=False) as session:
        await eventually(lambda: f"{service}left" in session.cameras)
        assert not session.unavailable
    async with Session.open(CameraTarget(Address.parse(f"{service}left"), "door"), mdns=False) as session:
        await eventually(lambda: f"{service}left" in session.cameras)
        assert session.camera("door").info.name == "left"


async def test_address_by_the_command_line(field: FieldServer, tmp_path: Path) -> None:
    service = SnapshotClient(base_url=field.url).address
    listed = await asynccam("cameras", service, "--json")
    assert listed.code == 0
    told = {one["name"]: one["address"] for one in json.loads(listed.out)["cameras"]}
    assert list(told) == NAMES
    for name in ("left", "Süd Hof"):
        taken = await asynccam("snapshot", told[name], "--to", tmp_path / name, "--json")
        assert taken.code == 0, taken.err
        (file,) = (tmp_path / name).iterdir()
        assert file.read_bytes() == jpeg()


async def test_path_without_slash_is_explained(field: FieldServer) -> None:
    for wrong in (f"snapshot://127.0.0.1:{field.port}/cams/süd", f"snapshot://127.0.0.1:{field.port}/left/"):
        with pytest.raises(errors.NotFoundError, match="follows the last slash is the camera"):
            await SnapshotCamera.connect(wrong)


async def test_unnamed_camera_has_no_address(field: FieldServer) -> None:
    field.cameras = [{"device_path": "/dev/video0"}, camera("left"), camera("left", "/dev/video2")]
    async with SnapshotClient(base_url=field.url) as client:
        (left,) = await SnapshotCamera.all_of(client)
        assert left.info.extra["device_path"] == "/dev/video0"
        assert (await SnapshotCamera.at(client.address, client)).info.name == "left"


def test_documented_table_is_true() -> None:
    page = (Path(__file__).parents[3] / "docs" / "snapshot.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(snapshots?://.*)` \| (.*) \| `(https?://.*)` \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for addresses, name, base in rows:
        for text in addresses.split("` or `"):
            place = Address.parse(text)
            assert place.camera == ("" if name == "all, or the only one" else name.strip("`"))
            assert base_url_of(place) == base


@settings(deadline=None)  # what is asked is what, not how fast on a busy machine
@given(
    st.sampled_from(["http", "https"]),
    st.sampled_from(["127.0.0.1", "[::1]", "[fe80::1%25eth0]", "Hill.LOCAL", "bücher.example", "a_b"]),
    st.none() | st.integers(1, 65535),
    st.lists(st.text(min_size=1, max_size=4), max_size=3),
    st.text(min_size=1),
    st.booleans(),
)
def test_any_base_url_and_name_is_reversible(
    scheme: str, host: str, port: int | None, segments: list[str], name: str, encoded: bool
) -> None:
    path = "".join(f"/{quote(one, safe='')}" for one in segments)
    if not encoded:
        path = "".join(f"/{one}" for one in segments)
    try:
        client = SnapshotClient(base_url=f"{scheme}://{host}{'' if port is None else f':{port}'}{path}")
    except errors.AddressError:
        return
    place = Address.parse(client.address_of(name))
    assert place.camera == name
    again = SnapshotClient(base_url=base_url_of(place))
    assert again.address == client.address
    assert again.address_of(name) == client.address_of(name)
    assert Address.parse(client.address) == place.with_camera("")
