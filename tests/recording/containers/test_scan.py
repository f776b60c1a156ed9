"""The reader of a file is chosen by what is in it; what nobody understands is unknown."""

import random
import threading
from pathlib import Path

import pytest

from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file


def scan(path: Path, data: bytes) -> Scan:
    path.write_bytes(data)
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


@pytest.mark.parametrize(
    "data",
    [
        b"not a video",
        b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(3000),
        b"GIF89a" + random.Random(2).randbytes(3000),
        b"<html>" + b"a page " * 999,
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + random.Random(3).randbytes(90_000),  # WMV
        b"\x7fELF" + random.Random(4).randbytes(90_000),
        b"\xff" * 5000,
        b"\xff\xd8",
        b"\x1f\x8b\x08" + random.Random(5).randbytes(5000),
        *(random.Random(seed).randbytes(100_000) for seed in range(10)),
    ],
)
def test_unknown_format_is_not_a_failure(tmp_path: Path, data: bytes) -> None:
    found = scan(tmp_path / "a", data)
    assert found == Scan(None, None, note="is of a format that is not understood", understood=False)


def test_empty_and_zero_files_have_a_scan(tmp_path: Path) -> None:
    assert scan(tmp_path / "a", b"") == Scan(0, None, note="has no bytes")
    assert scan(tmp_path / "a", bytes(100_000)) == Scan(0, None, damaged="holds nothing but zeros")
