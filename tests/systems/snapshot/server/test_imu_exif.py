"""IMU readings in a picture's EXIF."""

import io
import json
from pathlib import Path

import piexif
import piexif.helper
import pytest
from PIL import Image

from asynccam.errors import StorageError
from asynccam.systems.snapshot.server.imu import write_reading
from asynccam.systems.snapshot.server.models import Reading
from tests.support.v4l2 import a_jpeg

READING = Reading(1.5, -2.25, 359.0, 1_790_000_000.5)


def test_write_reading_matches_existing_servers(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(a_jpeg())
    assert write_reading(path, READING)
    tags = piexif.load(str(path))
    comment = tags["Exif"][piexif.ExifIFD.UserComment]
    assert comment.startswith(b"UNICODE\0")
    assert json.loads(comment[8:].decode("utf-16-be")) == {
        "roll": 1.5,
        "pitch": -2.25,
        "yaw": 359.0,
        "timestamp": 1_790_000_000.5,
    }
    assert json.loads(piexif.helper.UserComment.load(comment))["yaw"] == 359.0
    assert tags["0th"][piexif.ImageIFD.Software].startswith(b"asynccam ")
    with Image.open(path) as after, Image.open(io.BytesIO(a_jpeg())) as before:
        assert after.tobytes() == before.tobytes(), "the picture itself is not encoded again"
    assert [one.name for one in tmp_path.iterdir()] == ["a.jpg"]


def test_write_reading_keeps_other_exif(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    data = io.BytesIO()
    own = piexif.dump({"0th": {piexif.ImageIFD.Make: b"Lens & Co"}})
    piexif.insert(own, a_jpeg(), data)
    path.write_bytes(data.getvalue())
    assert write_reading(path, READING)
    tags = piexif.load(str(path))
    assert tags["0th"][piexif.ImageIFD.Make] == b"Lens & Co"
    assert piexif.ExifIFD.UserComment in tags["Exif"]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\xff\xff", b"YUYV" * 500, bytes(10)])
def test_write_reading_leaves_unsuitable_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert not write_reading(path, READING)
    assert path.read_bytes() == data
    assert len(list(tmp_path.iterdir())) == 1


def test_write_reading_of_truncated_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    whole = io.BytesIO()
    piexif.insert(piexif.dump({"0th": {piexif.ImageIFD.Make: b"x"}}), a_jpeg(16, 16), whole)
    for cut in range(400):
        data = whole.getvalue()[:cut]
        path.write_bytes(data)
        assert write_reading(path, READING) or path.read_bytes() == data


def test_write_reading_of_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_reading(tmp_path / "none.jpg", READING)


def test_reading_adds_offsets() -> None:
    assert READING.turned(1, None, -9) == Reading(2.5, -2.25, 350.0, READING.at)
