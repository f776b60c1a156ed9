"""Frame layouts, and their conversion to JPEG."""

import io
from pathlib import Path

import pytest
from PIL import Image

from asynccam.errors import RecordingError
from asynccam.systems.snapshot.server.backends import (
    JPEG_FORMATS,
    KNOWN,
    check_known,
    develop,
    frame_layout,
)
from tests.support.v4l2 import a_jpeg

# Bytes of one frame of 641x481, counted by hand.
SIZES = {
    "YUYV": 642 * 2 * 481,
    "GREY": 641 * 481,
    "Y16 ": 641 * 2 * 481,
    "RGB3": 641 * 3 * 481,
    "XR24": 641 * 4 * 481,
    "YU12": 641 * 481 + 2 * 321 * 241,
    "NV12": 641 * 481 + 642 * 241,
    "NV16": 641 * 481 + 642 * 481,
    "NV24": 641 * 481 + 1282 * 481,
    "422P": 641 * 481 + 2 * 321 * 481,
}


@pytest.mark.parametrize(("fourcc", "size"), SIZES.items())
def test_frame_layout_without_padding(fourcc: str, size: int) -> None:
    form = frame_layout(fourcc, 641, 481, size)
    assert form.size == size
    assert form.offsets[0] == 0


def test_frame_layout_with_padded_rows() -> None:
    assert frame_layout("YUYV", 640, 480, 1344 * 480).strides == (1344,)
    assert frame_layout("GREY", 650, 480, 768 * 480).strides == (768,)
    nv12 = frame_layout("NV12", 640, 480, 704 * 480 * 3 // 2)
    assert nv12.strides == (704, 704)
    assert nv12.offsets == (0, 704 * 480)
    i420 = frame_layout("YU12", 640, 480, 704 * 480 * 3 // 2)
    assert i420.strides == (704, 352, 352)
    assert i420.offsets == (0, 704 * 480, 704 * 480 + 352 * 240)


def test_frame_layout_with_padding_at_the_end() -> None:
    form = frame_layout("YUYV", 640, 480, 640 * 480 * 2 + 100)
    assert (form.strides, form.size) == ((1280,), 640 * 480 * 2)


def test_frame_layout_of_whole_pages() -> None:
    whole = -(-642 * 2 * 481 // 4096) * 4096
    assert frame_layout("YUYV", 641, 481, whole).strides == (1284,)


@pytest.mark.parametrize("size", [0, 1000, 640 * 480 * 2 - 1, 640 * 480 * 2 + 700, 1280 * 720 * 2])
def test_frame_layout_refuses_other_size(size: int) -> None:
    with pytest.raises(RecordingError, match=r"640x480 in YUYV"):
        frame_layout("YUYV", 640, 480, size)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(RecordingError, match=r"H264.*MJPG.*YUYV"):
        check_known("H264")
    with pytest.raises(RecordingError, match="BA81"):
        frame_layout("BA81", 640, 480, 640 * 480)


def grey(fourcc: str, width: int, height: int, level: int) -> bytes:
    """A frame of one shade, made by hand."""
    half, rows = (width + 1) // 2, (height + 1) // 2
    if fourcc in ("YUYV", "YVYU"):
        return bytes([level, 128]) * (2 * half) * height
    if fourcc in ("UYVY", "VYUY"):
        return bytes([128, level]) * (2 * half) * height
    luma = bytes([level]) * width * height
    chroma = {
        "NV12": 2 * half * rows,
        "NV21": 2 * half * rows,
        "YU12": 2 * half * rows,
        "YV12": 2 * half * rows,
        "NV16": 2 * half * height,
        "NV61": 2 * half * height,
        "422P": 2 * half * height,
        "NV24": 2 * width * height,
        "411P": 2 * ((width + 3) // 4) * height,
        "GREY": 0,
    }
    if fourcc in chroma:
        return luma + bytes([128]) * chroma[fourcc]
    if fourcc == "Y16 ":
        return bytes([0, level]) * width * height
    if fourcc == "RGBP":
        return (0b01111_011111_01111).to_bytes(2, "little") * width * height
    return bytes([level]) * (3 if fourcc in ("RGB3", "BGR3") else 4) * width * height


@pytest.mark.parametrize("fourcc", sorted(KNOWN - JPEG_FORMATS))
async def test_every_known_format_is_converted(tmp_path: Path, fourcc: str) -> None:
    raw, target = tmp_path / "odd name \"'.raw", tmp_path / "picture ! x.jpg"
    raw.write_bytes(grey(fourcc, 99, 51, 120))
    await develop(raw, target, fourcc, 99, 51)
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("JPEG", (99, 51))
        shades = picture.convert("L").tobytes()
    assert 90 < min(shades) <= max(shades) < 150, "one shade of grey all over, nothing shifted"


@pytest.mark.parametrize(("fourcc", "stride"), [("YUYV", 256), ("GREY", 128)])
async def test_padded_rows_do_not_slant_the_picture(tmp_path: Path, fourcc: str, stride: int) -> None:
    """A bright bar down the middle stays straight."""
    step = 2 if fourcc == "YUYV" else 1
    row = bytearray((bytes([16, 128]) if step == 2 else bytes([16])) * 100).ljust(stride, b"\xee")
    for column in range(48, 52):
        row[column * step] = 235
    raw, target = tmp_path / "a.raw", tmp_path / "a.jpg"
    raw.write_bytes(bytes(row) * 60)
    await develop(raw, target, fourcc, 100, 60)
    with Image.open(target) as picture:
        shades = picture.convert("L")
        for y in range(60):
            assert shades.getpixel((50, y)) > 150  # type: ignore[operator]  # one number, in "L"
            assert shades.getpixel((10, y)) < 60  # type: ignore[operator]  # as above


async def test_conversion_keeps_colours(tmp_path: Path) -> None:
    for fourcc, pixel in {
        "RGB3": b"\xff\x00\x00",
        "BGR3": b"\x00\x00\xff",
        "XR24": b"\x00\x00\xff\x00",
    }.items():
        raw, target = tmp_path / "a.raw", tmp_path / "a.jpg"
        raw.write_bytes(pixel * 32 * 32)
        await develop(raw, target, fourcc, 32, 32)
        with Image.open(io.BytesIO(target.read_bytes())) as picture:
            red, green, blue = picture.convert("RGB").resize((1, 1)).tobytes()
        assert red > 240, fourcc
        assert max(green, blue) < 15, fourcc


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1280, 720)])
async def test_conversion_keeps_black_white_and_red(tmp_path: Path, width: int, height: int) -> None:
    """Y'CbCr from a camera has the narrow range of BT.601, whatever its size; a JPEG has the full one."""
    raw, target = tmp_path / "a.raw", tmp_path / "a.jpg"
    third = width * height // 6
    raw.write_bytes(b"\xeb\x80" * 2 * third + b"\x10\x80" * 2 * third + b"\x51\x5a\x51\xf0" * third)
    await develop(raw, target, "YUYV", width, height)
    with Image.open(target) as picture:
        assert [one[0] for one in picture.layer] == [1, 2, 3]  # type: ignore[attr-defined]  # of JPEGs
        seen = [picture.convert("RGB").getpixel((width // 2, height * at // 6)) for at in (1, 3, 5)]
    for found, meant in zip(seen, [(255, 255, 255), (0, 0, 0), (255, 0, 0)], strict=True):
        assert isinstance(found, tuple)
        assert all(abs(one - other) < 6 for one, other in zip(found, meant, strict=True)), seen


async def test_motion_jpeg_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(a_jpeg())
    await develop(path, path, "MJPG", 64, 48)
    assert path.read_bytes() == a_jpeg()


async def test_invalid_motion_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\x80\x10" * 2000)
    with pytest.raises(RecordingError, match="not a JPEG"):
        await develop(path, path, "MJPG", 64, 48)
