"""Downloads of whole and broken JPEGs."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from asynccam import Session, errors
from asynccam.model.manifest import FileState, Outcome
from asynccam.recording import verify_file
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from asynccam.take.collector import FileCheck
from tests.support.jpegs import BROKEN, NONE, WHOLE, jpeg_of_kind, noise, picture_in
from tests.support.snapshot_field_server import FieldServer

pytestmark = pytest.mark.usefixtures("no_waits_between_tries")

PATH = "/snapshots/a.jpg"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"


def with_length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def until_closed(body: bytes) -> bytes:
    return HEAD + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


WAYS = pytest.mark.parametrize("way", [with_length, until_closed, chunked])
Way = Callable[[bytes], bytes]


@WAYS
@pytest.mark.parametrize("kind", WHOLE)
async def test_download_keeps_whole_picture_only(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, kind: str, way: Way
) -> None:
    field.raw[f"GET {PATH}"] = way(jpeg_of_kind(kind))
    expected = picture_in(kind)
    local = await client.download(PATH, tmp_path)
    data = local.path.read_bytes()
    assert data == expected
    assert (local.size, local.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert await client.fetch_image(PATH) == expected
    assert len(field.requests) == 2
    assert list(tmp_path.iterdir()) == [local.path]
    with Image.open(io.BytesIO(data)) as image:
        image.load()


@WAYS
@pytest.mark.parametrize("kind", BROKEN)
async def test_download_of_broken_picture_raises_and_keeps_part(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, kind: str, way: Way
) -> None:
    body = jpeg_of_kind(kind)
    field.raw[f"GET {PATH}"] = way(body)
    with pytest.raises((SnapshotClientError, errors.TransferError), match="broken picture: it ") as raised:
        await client.download(PATH, tmp_path)
    error = raised.value
    # Where only a closed connection ends the body, it may have broken off.
    kinds = errors.TransferError if way is until_closed else errors.DamagedFileError
    assert isinstance(error, kinds)
    assert error.part is not None
    assert error.part.read_bytes() == body
    assert error.received == len(body)
    assert error.part.name != "a.jpg"
    assert list(tmp_path.iterdir()) == [error.part]
    with pytest.raises(SnapshotClientError, match="broken picture: it ") as in_memory:
        await client.fetch_image(PATH)
    kinds_in_memory = errors.ConnectionError if way is until_closed else errors.DamagedFileError
    assert isinstance(in_memory.value, kinds_in_memory)


@WAYS
@pytest.mark.parametrize("kind", NONE)
async def test_download_of_other_content_leaves_nothing(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, kind: str, way: Way
) -> None:
    field.raw[f"GET {PATH}"] = way(jpeg_of_kind(kind))
    for call in (client.download(PATH, tmp_path), client.fetch_image(PATH)):
        with pytest.raises(errors.RemoteProtocolError, match=r"not a JPEG|web page|is empty") as raised:
            await call
        assert not isinstance(raised.value, errors.DamagedFileError)
    assert len(field.requests) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["cut60", "noeoi", "grey"])
async def test_download_of_picture_without_end_is_truncated(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, kind: str
) -> None:
    field.pictures["left"] = jpeg_of_kind(kind)
    with pytest.raises(errors.DamagedFileError) as raised:
        await client.snapshot("left", tmp_path)
    assert raised.value.verdict == "truncated"
    assert raised.value.part is not None
    assert (await verify_file(raised.value.part)).verdict.value == "truncated"
    assert len(field.captures) == 1, "a picture is asked for once"


@pytest.mark.parametrize("way", [with_length, chunked])
@pytest.mark.parametrize("kind", ["ok", "leadjunk"])
async def test_download_of_broken_connection_is_refused(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, kind: str, way: Way
) -> None:
    field.raw[f"GET {PATH}"] = way(jpeg_of_kind(kind))[:-40]
    with pytest.raises(errors.TransferError) as raised:
        await client.download(PATH, tmp_path)
    part = raised.value.part
    assert part is None or jpeg_of_kind(kind).startswith(part.read_bytes())
    assert list(tmp_path.iterdir()) == [part] * (part is not None)
    with pytest.raises(errors.ConnectionError):
        await client.fetch_image(PATH)


async def test_download_ignores_break_after_the_picture(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    body = jpeg_of_kind("junk512")
    field.raw[f"GET {PATH}"] = until_closed(body[:-300])
    assert (await client.download(PATH, tmp_path)).path.read_bytes() == body[:-300]


async def test_download_resumes_behind_junk(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    good = noise(size=(640, 480))
    field.pictures["left"], field.breaks = b"\0\1\2\3\4" + good, [2, 700, 100_000]
    local = await client.snapshot("left", tmp_path)
    assert local.path.read_bytes() == good
    assert local.sha256 == hashlib.sha256(good).hexdigest()


async def test_download_of_endless_picture_fills_no_disk(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asynccam.systems.snapshot.client.MAX_IMAGE", 100_000)
    for way in (with_length, until_closed, chunked):
        field.raw[f"GET {PATH}"] = way(noise(size=(640, 480)))
        with pytest.raises(SnapshotClientError, match="more than 100000 bytes"):
            await client.download(PATH, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_snapshot_all_reports_single_broken_picture(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.pictures["left"], field.pictures["right"] = jpeg_of_kind("cut60"), jpeg_of_kind("leadzero")
    left, right = await client.snapshot_all(tmp_path)
    assert left.file is None
    assert isinstance(left.error, errors.DamagedFileError)
    assert right.error is None
    assert right.file is not None
    assert right.file.path.read_bytes() == picture_in("leadzero")


async def test_large_picture_is_checked_in_a_thread(client: SnapshotClient, field: FieldServer) -> None:
    field.raw[f"GET {PATH}"] = with_length(noise(size=(1920, 1080)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    try:
        await client.fetch_image(PATH)
    finally:
        counting.cancel()
    assert turns > 10


# -- in a take ----------------------------------------------------------------------------------


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session() as session:
        yield session


@pytest.mark.realtime
@pytest.mark.parametrize("verify", [None, verify_file])
@pytest.mark.parametrize(
    ("kind", "word", "frames"),
    [
        ("ok", "complete", 1),
        ("leadjunk", "complete", 1),
        ("tworesult", "complete", 1),
        ("cut60", "truncated", 0),
        ("twosoi", "damaged", 0),
    ],
)
async def test_take_has_a_check_for_each_picture(
    session: Session,
    field: FieldServer,
    tmp_path: Path,
    kind: str,
    word: str,
    frames: int,
    verify: FileCheck | None,
) -> None:
    field.pictures["left"] = jpeg_of_kind(kind)
    camera = await session.connect(f"snapshot://127.0.0.1:{field.port}/left")
    take = await session.take([camera], duration=0, directory=tmp_path, verify=verify)
    (record,) = take.manifest.cameras
    assert record.files, record.errors
    (file,) = record.files
    assert record.kind == "still"
    assert file.verdict is not None
    assert (file.verdict.verdict, file.verdict.frames) == (word, frames)
    assert file.verdict.is_failure is (word != "complete")
    assert file.state is FileState.ARRIVED
    assert file.path is not None
    data = (take.directory / file.path).read_bytes()
    assert data == (picture_in(kind) if word == "complete" else jpeg_of_kind(kind))
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert Path(file.path).suffix == ".jpg"
    assert record.outcome is (Outcome.COMPLETE if word == "complete" else Outcome.INCOMPLETE)
    assert record.accepted_at is not None
    assert [one.name for one in (take.directory / record.directory).iterdir()] == [Path(file.path).name]
