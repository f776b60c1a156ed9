"""JPEG pictures as cameras send them: whole, with bytes around them, and broken."""

import io
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from asynccam.recording.containers.jpeg import JpegPicture, find_picture
from asynccam.recording.containers.jpeg_entropy import MOTION_JPEG_TABLES
from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.verify import Verdict, verify_file

CUT = "is cut off before its end of image"
END = b"\xff\xd9"


def scene(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture with noise in it, so that each block takes some bytes."""
    noise = random.Random(7)
    width, height = size
    values = [noise.randrange(0, 120) + column for _ in range(height) for column in range(width)]
    grey = Image.new("L", size)
    grey.putdata([min(255, value) for value in values])
    return Image.merge("RGB", (grey, grey.rotate(180), grey)).convert(mode)


def jpeg(picture: Image.Image | None = None, **options: object) -> bytes:
    target = io.BytesIO()
    (picture or scene()).save(target, "JPEG", **{"quality": 75, **options})
    return target.getvalue()


WHOLE = jpeg()


def scan_at(data: bytes) -> int:
    """Return where the data of the first scan begins."""
    at = data.index(b"\xff\xda") + 2
    return at + int.from_bytes(data[at : at + 2])


def without_tables(data: bytes, marker: int = 0xC4) -> bytes:
    """A picture without its DHT segments, as Motion JPEG is."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        kept += data[at:end] if data[at + 1] != marker else b""
        at = end
    return kept + data[at:]


def exif_with_thumbnail() -> bytes:
    thumbnail = jpeg(scene(size=(16, 16)))
    return WHOLE[:2] + b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2) + b"Exif\0\0" + thumbnail + WHOLE[2:]


def with_line_count_behind(data: bytes) -> bytes:
    """The same picture with its height in a DNL segment (T.81 B.2.5)."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + b"\0\0" + data[at + 2 : -2] + b"\xff\xdc\0\x04" + data[at : at + 2] + END


KINDS = {
    "plain": WHOLE,
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "grey": jpeg(scene("L")),
    "CMYK": jpeg(scene("CMYK")),
    "odd size": jpeg(scene(size=(61, 47))),
    "one pixel": jpeg(scene(size=(1, 1))),
    "own tables": jpeg(optimize=True),
    "flat, own tables": jpeg(Image.new("RGB", (640, 480)), optimize=True),
    "flat": jpeg(Image.new("RGB", (640, 480))),
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=1),
    "restarts in rows": jpeg(scene(size=(200, 300)), restart_marker_rows=1),
    "wide values": jpeg(quality=1),
    "16-bit quantization": jpeg(qtables=[[300] * 64, [999] * 64]),
    "fine values": jpeg(quality=100, subsampling=0),
    "no tables": without_tables(WHOLE),
    "thumbnail": exif_with_thumbnail(),
    "DNL": with_line_count_behind(WHOLE),
    "fill bytes": WHOLE[:2] + b"\xff\xff" + WHOLE[2:-2] + b"\xff\xff" + END,
    "bytes between": WHOLE[:20] + bytes(9) + WHOLE[20:],
    "padded scan": WHOLE[:-2] + bytes(300) + END,
    "large": jpeg(scene(size=(1024, 600)), quality=95),
}


@pytest.mark.parametrize("name", KINDS)
def test_whole_picture_is_found_with_its_place_and_size(name: str) -> None:
    data = KINDS[name]
    with Image.open(io.BytesIO(data if name not in ("DNL", "bytes between") else WHOLE)) as picture:
        assert find_picture(data) == JpegPicture(0, len(data), *picture.size, "")


AROUND = {
    "bytes behind": (b"", b"dhavY\x19\x01\0"),
    "zeros behind": (b"", bytes(512)),
    "random behind": (b"", random.Random(1).randbytes(512)),
    "bytes before": (b"\xa8\x0a\x33", b""),
    "zeros before": (b"\0\0", b""),
    "a part's headers before": (b"--x\r\nContent-Type: image/jpeg\r\n\r\n", b"\r\n--x--"),
    "part of the next": (b"", WHOLE[:700]),
    "the same again": (b"", WHOLE),
    "far behind": (b"DHAV" + bytes(60_000), b""),
}


@pytest.mark.parametrize("name", AROUND)
def test_picture_is_found_between_other_bytes(name: str, tmp_path: Path) -> None:
    before, behind = AROUND[name]
    for kind in (bytes, bytearray, memoryview):
        found = find_picture(kind(before + WHOLE + behind))
        assert found == JpegPicture(len(before), len(before) + len(WHOLE), 64, 48, "")


@pytest.mark.parametrize("name", [name for name in AROUND if name != "far behind"])
async def test_file_with_bytes_around_its_picture_is_complete(name: str, tmp_path: Path) -> None:
    before, behind = AROUND[name]
    path = tmp_path / "a.jpg"
    path.write_bytes(before + WHOLE + behind)
    verdict = await verify_file(path)
    assert (verdict.verdict, verdict.frames) == (Verdict.COMPLETE, 1)
    assert verdict.detail == (f"has {len(behind)} bytes behind its picture" if behind else "")


def zeroed(data: bytes, begin: float, end: float) -> bytes:
    first = scan_at(data)
    low, high = (first + int((len(data) - 2 - first) * part) for part in (begin, end))
    return data[:low] + bytes(high - low) + data[high:]


def large() -> bytes:
    return jpeg(scene(size=(320, 240)))


BROKEN = {
    "60 per cent": (WHOLE[: len(WHOLE) * 6 // 10], CUT),
    "60 per cent and an end": (WHOLE[: len(WHOLE) * 6 // 10] + END, "lacks a part of its picture data"),
    "all but the last bytes, and an end": (WHOLE[:-12] + END, "lacks a part of its picture data"),
    "no end": (WHOLE[:-2], CUT),
    "half an end": (WHOLE[:-1], CUT),
    "zeros from the tables on": (WHOLE[:393] + bytes(4907), CUT),
    "zeros in place of all data": (zeroed(large(), 0, 1), "lacks a part of its picture data"),
    "more zeros than data": (
        WHOLE[: scan_at(WHOLE)] + bytes(5000) + END,
        "has zeros in place of its picture data",
    ),
    "zeros in the middle": (zeroed(large(), 0.3, 0.6), None),
    "two starts": (WHOLE[:2] + WHOLE, "begins a second time before its end of image"),
    "a half, then a whole one": (WHOLE[:1000] + WHOLE, "lacks a part of its picture data"),
    "start only": (b"\xff\xd8", CUT),
    "start and end": (b"\xff\xd8\xff\xd9", "holds no picture data"),
    "nothing": (b"", "holds no picture"),
    "text": (b"<html>503 busy</html>", "holds no picture"),
    "no quantization": (without_tables(WHOLE, 0xDB), "lacks a quantization table"),
    "no frame": (without_tables(WHOLE, 0xC0), "has a scan before its frame header"),
    "a lost restart": (KINDS["restarts"].replace(b"\xff\xd1", b"", 1), None),
    "lost intervals": (
        KINDS["restarts"][: KINDS["restarts"].index(b"\xff\xd1")] + END,
        "lacks a part of its picture data",
    ),
    "one scan of several": (
        KINDS["progressive"][: KINDS["progressive"].index(b"\xff\xda")] + END,
        "holds no picture data",
    ),
    "too little for its size": (
        WHOLE.replace(b"\x08\0\x30\0\x40", b"\x08\xff\xff\xff\xff")[:-2]
        + random.Random(4).randbytes(1 << 19).replace(b"\xff", b"\xfe")
        + END,
        "lacks a part of its picture data",
    ),
    "too far behind": (bytes(70_000) + WHOLE, "holds no picture"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_picture_has_a_flaw(name: str) -> None:
    data, flaw = BROKEN[name]
    picture = find_picture(data)
    assert picture.flaw == flaw if flaw else picture.flaw
    assert 0 <= picture.begin <= picture.end <= len(data)


@pytest.mark.parametrize(
    "name", [name for name in BROKEN if name not in ("nothing", "text", "too far behind")]
)
async def test_file_with_a_broken_picture_is_a_failure(name: str, tmp_path: Path) -> None:
    data, flaw = BROKEN[name]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    verdict = await verify_file(path)
    if data == b"\xff\xd8":  # too little to know a picture by
        assert verdict.verdict is Verdict.UNKNOWN
        return
    assert verdict.verdict is (Verdict.TRUNCATED if flaw == CUT else Verdict.DAMAGED)
    assert verdict.frames == 0
    assert verdict.detail


@pytest.mark.parametrize("name", KINDS)
def test_picture_cut_anywhere_is_not_whole(name: str) -> None:
    data = KINDS[name]
    for size in {*range(0, len(data), max(1, len(data) // 200)), *range(len(data) - 8, len(data))}:
        assert find_picture(data[:size]).flaw, size


def test_tables_of_motion_jpeg_are_those_that_encoders_write() -> None:
    at, found = 2, {}
    while WHOLE[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(WHOLE[at + 2 : at + 4])
        if WHOLE[at + 1] == 0xC4:
            found[WHOLE[at + 4]] = WHOLE[at + 5 : end]
        at = end
    assert found == MOTION_JPEG_TABLES


def scan(path: Path, data: bytes) -> Scan:
    path.write_bytes(data)
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


def test_motion_jpeg_is_counted_picture_by_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    assert scan(path, WHOLE * 9) == Scan(9, None)
    assert scan(path, (b"--x\r\n\r\n" + WHOLE) * 9) == Scan(9, None)
    assert scan(path, WHOLE * 9 + WHOLE[:900]) == Scan(9, None, "is cut off inside its last picture")
    broken = WHOLE[:900] + END
    assert scan(path, WHOLE * 4 + broken + WHOLE * 4) == Scan(8, None, damaged="has 1 spoiled picture")
    assert scan(path, broken + WHOLE[:900] + WHOLE * 4).damaged == "has 2 spoiled pictures"


def test_picture_across_windows_is_read_whole(tmp_path: Path) -> None:
    noise = Image.effect_noise((1600, 1200), 200)
    large = jpeg(noise.convert("RGB"), quality=100, subsampling=0)
    assert len(large) > 2 << 20
    assert scan(tmp_path / "a.jpg", large) == Scan(1, None)
    stream = scan(tmp_path / "a.mjpeg", WHOLE * 400)
    assert (stream.frames, stream.damaged, stream.truncated) == (400, "", "")


def test_pictures_within_other_formats_are_not_taken_for_the_file(tmp_path: Path) -> None:
    for head in (b"%PDF-1.4\n", b"ID3\3\0\0\0", b"II*\0", b"8BPS", b"some words and \xff\xd8\xff\xff or so "):
        assert not scan(tmp_path / "a", head + (WHOLE if head[:4] != b"some" else b"")).understood


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=6)), max_size=6),
    st.integers(0, 5000),
)
def test_any_bytes_raise_nothing(
    tmp_path: Path, name: str, spoils: list[tuple[int, bytes]], size: int
) -> None:
    data = bytearray(KINDS[name][:size])
    for at, spoil in spoils:
        data[at : at + len(spoil)] = spoil
    picture = find_picture(data)
    assert 0 <= picture.begin <= picture.end <= len(data)
    scan(tmp_path / "a.jpg", bytes(data))


@pytest.mark.parametrize(
    "lead", [bytes(40), b"\0\0\0\0\0\0\0\0wide\0\1\0\0mdat", bytes.fromhex("85 1549a966")]
)
def test_pictures_behind_spoiled_container_headers_are_damage(lead: bytes, tmp_path: Path) -> None:
    found = scan(tmp_path / "a.mkv", lead + WHOLE * 9)
    assert (found.frames, found.damaged) == (9, "begins with the remains of another container")
