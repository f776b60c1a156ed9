"""ZIP archives with video, as OAK devices send them: whole, cut, spoiled and hostile."""

import io
import struct
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynccam.recording.containers.reader import AbortedError, FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.verify import Verdict, verify_file

FRAMES = 30
NAMES = ("cam_a.h265", "cam_b.h265", "cam_c.h265")
UNKNOWN = Verdict.UNKNOWN


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "a.h265"
    words = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=30:d=1", "-c:v", "libx265"]
    subprocess.run(["ffmpeg", "-v", "error", *words, "-x265-params", "log-level=none", path], check=True)
    return path.read_bytes()


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as whole:
        whole.comment = comment
        for name, data in files.items():
            whole.writestr(name, data)
    return target.getvalue()


@pytest.fixture(scope="module")
def oak(stream: bytes) -> bytes:
    return archive({**dict.fromkeys(NAMES, stream), "metadata.json": b'{"fps": 30}'})


def scan(path: Path, data: bytes) -> Scan:
    path.write_bytes(data)
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_whole_archive_is_complete_with_its_first_stream(
    stream: bytes, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "oak.zip"
    path.write_bytes(archive({"about.json": b"{}", **dict.fromkeys(NAMES, stream)}, method, b"a comment"))
    verdict = await verify_file(path)
    assert (verdict.verdict, verdict.frames, verdict.detail) == (Verdict.COMPLETE, FRAMES, "")


def test_bytes_behind_an_archive_are_named(oak: bytes, tmp_path: Path) -> None:
    found = scan(tmp_path / "a.zip", oak + b"hello")
    assert found == Scan(FRAMES, None, note="has 5 bytes behind its end")


def test_archive_that_was_written_without_seeking_is_whole(stream: bytes, tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            piece = bytes(data)  # type: ignore[call-overload]
            self.data += piece
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("a.h265", stream)
    assert scan(tmp_path / "a.zip", pipe.data) == Scan(FRAMES, None)
    assert scan(tmp_path / "a.zip", pipe.data[:-30]).truncated == "is cut off before its directory"


def test_zip64_is_understood(stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = archive(dict.fromkeys(NAMES, stream))
    assert b"PK\x06\x06" in data
    assert scan(tmp_path / "a.zip", data) == Scan(FRAMES, None)


async def test_archive_cut_anywhere_is_truncated(oak: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for size in {*range(60, len(oak), len(oak) // 60), *range(len(oak) - 30, len(oak))}:
        path.write_bytes(oak[:size])
        assert (await verify_file(path)).verdict is Verdict.TRUNCATED, size


@pytest.mark.parametrize("begin", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_spoiled_entries_are_damage(stream: bytes, tmp_path: Path, begin: float, method: int) -> None:
    data = archive(dict.fromkeys(NAMES, stream), method)
    at = int(len(data) * begin)
    found = scan(tmp_path / "a.zip", data[:at] + bytes(300) + data[at + 300 :])
    assert found.damaged
    # Bytes that are missing or too many.
    assert scan(tmp_path / "a.zip", data[:at] + data[at + 9 :]).damaged
    assert scan(tmp_path / "a.zip", data[:at] + b"hello" + data[at:]).damaged


def test_stream_that_was_spoiled_before_it_was_packed_is_damage(stream: bytes, tmp_path: Path) -> None:
    half = len(stream) // 2
    spoiled = stream[:half] + bytes(500) + stream[half + 500 :]
    found = scan(tmp_path / "a.zip", archive({"a.h265": spoiled}))
    assert found.damaged == "has zeros within the pictures of a.h265"


def test_archive_within_a_cut_one_is_not_taken_for_it(oak: bytes, tmp_path: Path) -> None:
    outer = archive({"inner.zip": oak, "a.h265": b""})
    cut = outer[: outer.index(oak) + len(oak)]
    assert scan(tmp_path / "a.zip", cut).damaged


@pytest.mark.parametrize(
    ("files", "verdict", "detail"),
    [
        ({}, Verdict.EMPTY, "holds no file"),
        ({"word/document.xml": b"<x/>"}, UNKNOWN, "is a ZIP archive without video"),
        ({"a.h265": b""}, Verdict.EMPTY, "holds no frame"),
        ({"a.mp4": b"something"}, Verdict.COMPLETE, ""),
        ({"a.mp4": b"\0" * 70_000_000}, UNKNOWN, None),
    ],
)
async def test_archive_is_judged_by_its_contents(
    tmp_path: Path, files: dict[str, bytes], verdict: Verdict, detail: str | None
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive(files, zipfile.ZIP_DEFLATED))
    found = await verify_file(path)
    assert found.verdict is verdict
    assert found.detail == detail or (detail is None and "expands to 70000000 bytes" in found.detail)


def test_unknown_format_has_an_unknown_verdict(oak: bytes, stream: bytes, tmp_path: Path) -> None:
    directory = oak.index(b"PK\x01\x02")
    encrypted = oak[: directory + 8] + b"\1\0" + oak[directory + 10 :]
    found = scan(tmp_path / "a.zip", encrypted)
    assert (found.understood, found.note) == (False, "is encrypted")
    found = scan(tmp_path / "a.zip", archive({"a.h265": stream}, zipfile.ZIP_LZMA))
    assert (found.understood, found.note) == (False, "is packed by method 14, which is not understood")
    cut = archive({"notes.txt": b"hello" * 99})[:200]
    found = scan(tmp_path / "a.zip", cut)
    assert (found.understood, found.truncated) == (False, "")


def test_entries_that_share_their_data_are_damage(stream: bytes, tmp_path: Path) -> None:
    """As a small archive has them that is to take for ever."""
    one = archive({"a.h265": stream})
    at = one.index(b"PK\x01\x02")
    entry, end = one[at:-22], one[-22:]
    many = 500
    record = struct.pack("<HHII", many, many, many * len(entry), at)
    data = one[:at] + entry * many + end[:8] + record + end[20:]
    assert scan(tmp_path / "a.zip", data).damaged == "has entries that overlap"


def test_names_are_only_shown_and_cannot_move_a_cursor(stream: bytes, tmp_path: Path) -> None:
    data = archive({"../../\x1b[2Ja.h265": stream})
    spoiled = data.replace(stream[-20:], bytes(20), 1)
    found = scan(tmp_path / "a.zip", spoiled)
    assert found.damaged == "has a wrong checksum for ../../?[2Ja.h265"
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


def test_reading_ends_with_its_caller(oak: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(oak)
    abort = threading.Event()
    with FileView(path, abort) as view:
        abort.set()
        with pytest.raises(AbortedError):
            scan_file(view)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 420), st.binary(max_size=12)), max_size=5), st.booleans())
def test_any_directory_raises_nothing(
    stream: bytes, tmp_path: Path, spoils: list[tuple[int, bytes]], is_large: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(zipfile, "ZIP64_LIMIT", 100)
        data = bytearray(archive(dict.fromkeys(NAMES, stream[:3000]), zipfile.ZIP_DEFLATED))
    for back, spoil in spoils:
        data[len(data) - back : len(data) - back + len(spoil)] = spoil
    scan(tmp_path / "a.zip", bytes(data))
    scan(tmp_path / "a.zip", bytes(data[: len(data) // 2]) + bytes(data[-200:]))


@pytest.mark.parametrize("size", [1, 70_000, 300_000])
def test_bytes_behind_an_archive_are_not_a_failure(oak: bytes, tmp_path: Path, size: int) -> None:
    found = scan(tmp_path / "a.zip", oak + b"\1" * size)
    assert found == Scan(FRAMES, None, note=f"has {size} bytes behind its end")
