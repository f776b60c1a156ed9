"""read_imu: readings in EXIF, as different programs write them."""

import json
import struct
import sys
from pathlib import Path

import piexif
import piexif.helper
import pytest
from PIL import Image

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
        b"UNICODE\0" + TEXT.encode("utf-16-le") + b"\0",
        b"UNICODE\0" + TEXT.encode("utf-16-be") + b"\0",
        b"Unicode " + TEXT.encode("utf-16-be"),
        b"ASCII   " + TEXT.encode(),
        b"\0" * 8 + TEXT.encode("utf-16-le"),
        TEXT.encode(),
        TEXT.encode("utf-16-le"),
    ],
    ids=[
        "unicode",
        "ascii",
        "little-endian",
        "byte-order-mark",
        "utf-8",
        "undefined",
        "little-endian, ended",
        "big-endian, ended",
        "unicode, spelt freely",
        "ascii, filled with spaces",
        "undefined, little-endian",
        "no code",
        "no code, little-endian",
    ],
)
async def test_read_imu_accepts_every_unicode_encoding(tmp_path: Path, comment: bytes) -> None:
    assert await read_imu(picture(tmp_path / "a.jpg", comment)) == ImuReading(**READING)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 2, 7])
async def test_read_imu_accepts_byte_orders_and_types(tmp_path: Path, order: str, kind: int) -> None:
    encoding = "utf-16-le" if order == "<" else "utf-16-be"
    comment = b"UNICODE\0" + TEXT.encode(encoding)
    tiff = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    tiff += struct.pack(f"{order}HHHIII", 1, 0x8769, 4, 1, 26, 0)  # the way to the EXIF
    tiff += struct.pack(f"{order}HHHIII", 1, 0x9286, kind, len(comment), 44, 0)
    body = b"Exif\0\0" + tiff + comment
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg()[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg()[2:])
    assert await read_imu(path) == ImuReading(**READING)


async def test_read_imu_finds_comment_in_main_ifd(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x9286] = b"UNICODE\0" + TEXT.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert await read_imu(tmp_path / "a.jpg") == ImuReading(**READING)


async def test_read_imu_ignores_numeric_comment(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x9286] = 5
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert await read_imu(tmp_path / "a.jpg") is None


async def test_read_imu_accepts_numbers_as_text(tmp_path: Path) -> None:
    told = {"roll": "1", "pitch": 2, "yaw": "-3.5", "timestamp": "2026-01-31T14:25:30", "from": "boat"}
    comment = piexif.helper.UserComment.dump(json.dumps(told), encoding="unicode")
    reading = await read_imu(str(picture(tmp_path / "a.jpg", comment)))
    assert reading is not None
    assert (reading.roll, reading.pitch, reading.yaw) == (1, 2, -3.5)
    assert reading.timestamp == "2026-01-31T14:25:30"
    assert reading.model_extra == {"from": "boat"}


@pytest.mark.parametrize("comment", [None, b"UNICODE\0", b"ASCII\0\0\0hello", b"UNICODE\0\0h\0i"])
async def test_read_imu_of_picture_without_reading(tmp_path: Path, comment: bytes | None) -> None:
    assert await read_imu(picture(tmp_path / "a.jpg", comment)) is None


async def test_read_imu_of_picture_without_exif(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert await read_imu(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("text", ["{", '{"roll": 1}', '{"roll": "x", "pitch": 1, "yaw": 1}', "{}"])
async def test_read_imu_of_broken_reading_raises(tmp_path: Path, text: str) -> None:
    comment = piexif.helper.UserComment.dump(text, encoding="unicode")
    with pytest.raises(RemoteProtocolError, match="broken IMU reading"):
        await read_imu(picture(tmp_path / "a.jpg", comment))


async def test_read_imu_of_other_or_missing_file_raises(tmp_path: Path) -> None:
    (tmp_path / "raw.jpg").write_bytes(bytes([16, 128]) * 500)
    with pytest.raises(RemoteProtocolError, match=r"not a JPEG"):
        await read_imu(tmp_path / "raw.jpg")
    for path in (tmp_path / "no.jpg", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            await read_imu(path)


async def test_read_imu_of_truncated_exif(tmp_path: Path) -> None:
    comment = piexif.helper.UserComment.dump(TEXT, encoding="unicode")
    whole = picture(tmp_path / "a.jpg", comment).read_bytes()
    path = tmp_path / "cut.jpg"
    for cut in range(0, 400, 3):
        path.write_bytes(whole[:cut])
        try:
            assert await read_imu(path) in (None, ImuReading(**READING))
        except RemoteProtocolError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right


async def test_read_imu_without_pillow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"asynccam\[server\]"):
        await read_imu(tmp_path / "a.jpg")
