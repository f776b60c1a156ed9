"""Paths of pictures, and responses that are not pictures."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from asynccam import errors
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from tests.support.snapshot_field_server import FieldServer, jpeg, page, says, text

pytestmark = pytest.mark.usefixtures("no_waits_between_tries")

# -- where they are -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked", "name"),
    [
        ("/snapshots/a.jpg?token=x&size=ü", "/snapshots/a.jpg?token=x&size=%C3%BC", "a.jpg"),
        ("/snapshots/a.JPG?1769869530", "/snapshots/a.JPG?1769869530", "a.JPG"),
        ("/picture?file=a.jpg", "/picture?file=a.jpg", "picture"),
        ("/snapshots/wo?.jpg", "/snapshots/wo%3F.jpg", "wo_.jpg"),
        ("/snapshots/a #1 100%.jpg", "/snapshots/a%20%231%20100%25.jpg", "a #1 100%.jpg"),
        ("/snapshots/cam://x.jpg", "/snapshots/cam://x.jpg", "x.jpg"),
        ("{url}/deep/a b ü.jpg", "/deep/a%20b%20%C3%BC.jpg", "a b ü.jpg"),
        ("{url}/a.jpg\r\nX-Evil: 1", "/a.jpg%0D%0AX-Evil:%201", "a.jpg__X-Evil_ 1"),
        ("//{authority}/a.jpg?b=c", "/a.jpg?b=c", "a.jpg"),
    ],
)
async def test_image_path_is_encoded_once(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, path: str, asked: str, name: str
) -> None:
    field.raw[f"GET {asked}"] = text("200 OK", jpeg())
    path = path.format(url=field.url, authority=f"127.0.0.1:{field.port}")
    assert client.get_image_url(path) == field.url + asked
    assert await client.fetch_image(path) == jpeg()
    assert (await client.download(path, tmp_path)).path.name == name
    assert field.requests == [f"GET {asked}"] * 2
    assert "x-evil" not in field.heads[0]


async def test_lone_surrogates_are_refused(client: SnapshotClient, field: FieldServer) -> None:
    for call in (client.fetch_image("/snapshots/\ud800.jpg"), client.snapshot_camera("\ud800")):
        with pytest.raises(errors.UsageError, match="not Unicode"):
            await call
    assert field.requests == []


@pytest.mark.parametrize("picture", [None, 5, b"/snapshots/a.jpg", "", "\udfff"])
async def test_result_without_picture_is_refused(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, picture: Any
) -> None:
    for call in (client.fetch_image(picture), client.download(picture, tmp_path)):
        with pytest.raises(errors.UsageError):
            await call
    if picture != "":
        with pytest.raises(errors.UsageError):
            client.get_image_url(picture)
        with pytest.raises(errors.UsageError):
            await client.snapshot_camera(picture)
    assert field.requests == []


async def test_result_saved_as_json_is_accepted(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    kept = json.loads(json.dumps(await client.snapshot_camera("left")))
    assert await client.fetch_image(kept) == jpeg()
    assert (await client.download(kept, tmp_path)).path.name == kept["filename"]


@pytest.mark.parametrize("base", ["http://h h", "http://h\0", "http://h/\ud800"])
def test_base_url_that_cannot_be_an_address_is_refused(base: str) -> None:
    with pytest.raises(errors.AddressError):
        SnapshotClient(base_url=base)


# -- what is sent instead -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "status", "words"),
    [
        (page(404), errors.NotFoundError, 404, "not found on the server"),
        (says({"error": "deleted"}, "410 GONE"), errors.NotFoundError, 410, "deleted$"),
        (says({"error": "disk"}, "500 X"), errors.DeviceError, 500, "disk$"),
        (text("503 BUSY", b"<p>later</p>"), errors.BusyError, 503, "later$"),
        (text("403 FORBIDDEN", b"no token"), errors.PermissionDeniedError, 403, "no token$"),
        (
            text("302 FOUND", b"", "Location: http://evil/x.jpg"),
            errors.RemoteProtocolError,
            302,
            "moved to http://evil",
        ),
        (
            says({"success": False, "error": "gone"}),
            errors.RemoteProtocolError,
            200,
            "JSON, not a picture.*gone",
        ),
    ],
)
async def test_refused_picture_raises_alike_in_memory_and_on_disk(
    client: SnapshotClient,
    field: FieldServer,
    tmp_path: Path,
    answer: bytes,
    kind: type[errors.AsynccamError],
    status: int,
    words: str,
) -> None:
    field.raw["GET /snapshots/a.jpg"] = answer
    for call in (client.fetch_image("/snapshots/a.jpg"), client.download("/snapshots/a.jpg", tmp_path)):
        with pytest.raises(SnapshotClientError, match=words) as raised:
            await call
        assert isinstance(raised.value, kind)
        assert raised.value.status_code == status
        assert raised.value.response_text == answer.partition(b"\r\n\r\n")[2].decode()
    assert list(tmp_path.iterdir()) == []
    assert len(field.requests) == 2


# -- what breaks off ----------------------------------------------------------------------------


async def test_picture_in_memory_is_complete_or_refused(client: SnapshotClient, field: FieldServer) -> None:
    whole = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + jpeg()
    field.raw["GET /snapshots/a.jpg"] = whole
    assert await client.fetch_image("/snapshots/a.jpg") == jpeg()
    field.raw["GET /snapshots/a.jpg"] = whole[:-100]
    with pytest.raises(errors.ConnectionError, match="broke off") as raised:
        await client.fetch_image("/snapshots/a.jpg")
    assert isinstance(raised.value, SnapshotClientError)


async def test_server_that_keeps_breaking_off_is_given_up(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.pictures["left"], field.announce = jpeg(size=(640, 480)), False
    field.breaks = [700, 300] * 500  # a longer try after a shorter one brings nothing that was not there
    with pytest.raises(errors.TransferError, match="broke off"):
        await client.snapshot("left", tmp_path)
    assert len(field.requests) < 20


async def test_compressed_response_is_decoded(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.raw["GET /snapshots/a.jpg"] = text("200 OK", gzip.compress(jpeg()), "Content-Encoding: gzip")
    assert await client.fetch_image("/snapshots/a.jpg") == jpeg()
    assert (await client.download("/snapshots/a.jpg", tmp_path)).path.read_bytes() == jpeg()


async def test_invalid_compression_is_not_retried(client: SnapshotClient, field: FieldServer) -> None:
    field.raw["GET /api/cameras"] = text("200 OK", b"[]", "Content-Encoding: gzip")
    with pytest.raises(errors.RemoteProtocolError, match="not encoded as announced") as raised:
        await client.get_cameras()
    assert isinstance(raised.value, SnapshotClientError)


async def test_broken_response_is_one_line(client: SnapshotClient, field: FieldServer) -> None:
    field.raw["GET /api/cameras"] = says([{"name": "left"}])[:-5]
    with pytest.raises(errors.ConnectionError, match=r"lost in the middle of its answer$"):
        await client.get_cameras()
    field.raw["GET /api/cameras"] = b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n[]"
    with pytest.raises(errors.RemoteProtocolError, match="Content-Length") as raised:
        await client.get_cameras()
    assert "\n" not in str(raised.value)
