"""read_imu: where a camera looked, out of the picture's EXIF as writers in the field put it there."""

import json
import sys
from pathlib import Path

import piexif
import piexif.helper
import pytest

from asynccam.errors import RemoteProtocolError, StorageError, UsageError
from asynccam.systems.snapshot import ImuReading, read_imu
from tests.support.snapshot_field_server import jpeg

READING = {"roll": 1.5, "pitch": -2.25, "yaw": 359.0, "timestamp": 1769869530.25}
TEXT = json.dumps(READING)


def picture(path: Path, comment: bytes | None) -> Path:
    """A JPEG whose EXIF holds a comment, written by piexif as in the field."""
    path.write_bytes(jpeg())
    exif = {} if comment is None else {piexif.ExifIFD.UserComment: comment}
    piexif.insert(piexif.dump({"0th": {piexif.ImageIFD.Software: b"server"}, "Exif": exif}), str(path))
    return path


@pytest.mark.parametrize(
    "comment",
    [
        piexif.helper.UserComment.dump(TEXT, encoding="unicode"),
        piexif.helper.UserComment.dump(TEXT, encoding="ascii"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"UNICODE\0" + TEXT.encode(),
        b"\0" * 8 + TEXT.encode() + b"\0\0",
    ],
    ids=["unicode", "ascii", "little-endian", "byte-order-mark", "utf-8", "undefined"],
)
async def test_a_reading_in_whatever_the_writer_took_unicode_to_mean(tmp_path: Path, comment: bytes) -> None:
    assert await read_imu(picture(tmp_path / "a.jpg", comment)) == ImuReading(**READING)


async def test_numbers_may_be_text_and_the_time_anything(tmp_path: Path) -> None:
    told = {"roll": "1", "pitch": 2, "yaw": "-3.5", "timestamp": "2026-01-31T14:25:30", "from": "boat"}
    comment = piexif.helper.UserComment.dump(json.dumps(told), encoding="unicode")
    reading = await read_imu(str(picture(tmp_path / "a.jpg", comment)))
    assert reading is not None
    assert (reading.roll, reading.pitch, reading.yaw) == (1, 2, -3.5)
    assert reading.timestamp == "2026-01-31T14:25:30"
    assert reading.model_extra == {"from": "boat"}


@pytest.mark.parametrize("comment", [None, b"UNICODE\0", b"ASCII\0\0\0hello", b"UNICODE\0\0h\0i"])
async def test_a_picture_without_a_reading(tmp_path: Path, comment: bytes | None) -> None:
    assert await read_imu(picture(tmp_path / "a.jpg", comment)) is None


async def test_a_picture_without_exif(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert await read_imu(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("text", ["{", '{"roll": 1}', '{"roll": "x", "pitch": 1, "yaw": 1}', "{}"])
async def test_a_broken_reading_is_an_error(tmp_path: Path, text: str) -> None:
    comment = piexif.helper.UserComment.dump(text, encoding="unicode")
    with pytest.raises(RemoteProtocolError, match="broken IMU reading"):
        await read_imu(picture(tmp_path / "a.jpg", comment))


async def test_what_is_no_picture_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "raw.jpg").write_bytes(bytes([16, 128]) * 500)
    with pytest.raises(RemoteProtocolError, match=r"no JPEG"):
        await read_imu(tmp_path / "raw.jpg")
    for path in (tmp_path / "no.jpg", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            await read_imu(path)


async def test_exif_cut_short_anywhere_does_no_harm(tmp_path: Path) -> None:
    comment = piexif.helper.UserComment.dump(TEXT, encoding="unicode")
    whole = picture(tmp_path / "a.jpg", comment).read_bytes()
    path = tmp_path / "cut.jpg"
    for cut in range(0, 400, 3):
        path.write_bytes(whole[:cut])
        try:
            assert await read_imu(path) in (None, ImuReading(**READING))
        except RemoteProtocolError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right


async def test_without_pillow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"asynccam\[server\]"):
        await read_imu(tmp_path / "a.jpg")
