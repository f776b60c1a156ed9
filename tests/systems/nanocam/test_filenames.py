"""Names by the second that nobody else has, and files that get there whole."""

import re
import shutil
import time
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.model.filenames import safe_name
from asynccam.systems.nanocam.filenames import drop_empty, publish, reserve, timestamp
from asynccam.systems.nanocam.protocol import (
    local_name,
)


def test_timestamp_as_the_makers_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert timestamp(1596048855.9) == "2020-07-29 14+54+15"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert local_name("/home/media/2020-07-29 14:54:15.jpg") == "2020-07-29 14+54+15.jpg"
    assert safe_name(f"{timestamp(0)}.jpg") == f"{timestamp(0)}.jpg"


def test_reserve_gives_a_name_once(tmp_path: Path) -> None:
    taken = [reserve(tmp_path, "a", ".mp4").name for _ in range(3)]
    assert taken == ["a.mp4", "a-1.mp4", "a-2.mp4"]
    (tmp_path / "a-3.mp4").symlink_to("nowhere")
    assert reserve(tmp_path, "a", ".mp4").name == "a-4.mp4"
    with pytest.raises(StorageError, match="missing"):
        reserve(tmp_path / "missing", "a", ".mp4")


def test_drop_empty_keeps_a_written_file(tmp_path: Path) -> None:
    path = reserve(tmp_path, "a", ".mp4")
    drop_empty(path)
    drop_empty(path)
    assert not path.exists()
    path.write_bytes(b"x")
    drop_empty(path)
    assert path.read_bytes() == b"x"


def other_file_system() -> Path:
    """A directory on another file system than the temporary one, if there is one."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("there is one file system only")
    return shm


@pytest.mark.parametrize("elsewhere", [False, True])
def test_publish_never_overwrites(tmp_path: Path, *, elsewhere: bool) -> None:
    parent = other_file_system() if elsewhere else tmp_path
    work = parent / f"work-{tmp_path.name}-{time.monotonic_ns()}"
    work.mkdir()
    media = tmp_path / "media"
    media.mkdir()
    try:
        for text in ("one", "two"):
            (work / "frame-00019.jpg").write_text(text)
            publish(work / "frame-00019.jpg", media, "s")
        assert {path.name: path.read_text() for path in media.iterdir()} == {"s.jpg": "one", "s-1.jpg": "two"}
        assert list(work.iterdir()) == []
    finally:
        shutil.rmtree(work)


def test_publish_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media = tmp_path / "media"
    media.mkdir()
    work = other_file_system() / f"asynccam-{tmp_path.name}-{time.monotonic_ns()}.jpg"
    work.write_bytes(b"x")

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    try:
        with pytest.raises(StorageError, match=re.escape("No space left")):
            publish(work, media, "s")
        assert list(media.iterdir()) == []
        assert work.exists()
    finally:
        work.unlink()
