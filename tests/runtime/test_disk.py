"""The small file operations everything else stands on."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from asynccam.errors import InsufficientSpaceError, StorageError
from asynccam.model.safe_files import Folder, Root
from asynccam.runtime.disk import (
    atomic_write,
    on_disk,
    remove_unfinished,
    rename_new,
    reserve_space,
    storage_errors,
)
from tests.support.waiting import eventually_awaited

MIB = 1024 * 1024


def test_reserve_space_keeps_file_length(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        assert reserve_space(file.fileno(), 4 * MIB)
        status = os.fstat(file.fileno())
        assert status.st_size == 0
        assert status.st_blocks * 512 >= 4 * MIB


def test_reserve_space_beyond_free_space(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError) as refused:  # noqa: PT011 - see errno
        reserve_space(file.fileno(), 1 << 50)
    assert refused.value.errno in {errno.ENOSPC, errno.EFBIG}


def test_reserve_space_of_a_special_file() -> None:
    with Path("/dev/null").open("wb") as file, pytest.raises(OSError, match="No such device"):
        reserve_space(file.fileno(), MIB)
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            reserve_space(writer, MIB)
    finally:
        os.close(reader)
        os.close(writer)


def no_hard_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["hard links", "none"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a file system such as FAT, which a test cannot mount everywhere."""
    if request.param == "none":
        monkeypatch.setattr(os, "link", no_hard_links)


def test_rename_new_to_a_free_name(tmp_path: Path, links: None) -> None:
    source, target = tmp_path / "a.part", tmp_path / "a"
    source.write_bytes(b"new")
    rename_new(source, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert target.read_bytes() == b"new"


def test_rename_new_never_replaces_a_file(tmp_path: Path, links: None) -> None:
    source, target = tmp_path / "a.part", tmp_path / "a"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        rename_new(source, target)
    assert (source.read_bytes(), target.read_bytes()) == (b"new", b"old")


def test_rename_new_never_replaces_a_dangling_link(tmp_path: Path, links: None) -> None:
    source, target = tmp_path / "a.part", tmp_path / "a"
    source.write_bytes(b"new")
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        rename_new(source, target)
    assert not (tmp_path / "nowhere").exists()


def test_rename_new_failure_leaves_no_empty_target(tmp_path: Path, links: None) -> None:
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "missing.part", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_folder_sync_or_its_error(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        folder.sync()
    with pytest.raises(FileNotFoundError), Folder(tmp_path / "missing") as folder:
        folder.sync()


async def test_storage_errors_translates_system_errors(tmp_path: Path) -> None:
    def fail() -> None:
        with storage_errors("read", tmp_path / "missing"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(StorageError, match=r"cannot read .*missing: No such file") as failed:
        await on_disk(fail)
    assert isinstance(failed.value.__cause__, FileNotFoundError)


def test_storage_errors_keeps_own_errors(tmp_path: Path) -> None:
    with pytest.raises(InsufficientSpaceError), storage_errors("write", tmp_path):
        raise InsufficientSpaceError("full", needed=2, free=1)


async def test_on_disk_without_a_thread_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(StorageError, match="cannot start another thread"):
            await on_disk(done.append, 1)
    await on_disk(done.append, 2)  # the executor would do what it kept first
    assert done == [2]


async def test_on_disk_work_that_another_thread_ran_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    loop = asyncio.get_running_loop()
    busy = loop.run_in_executor(None, go_on.wait)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(StorageError, match="cannot start another thread"):
        await on_disk(int, "7")
    go_on.set()
    await busy

    async def ran() -> bool:
        try:
            return await on_disk(int, "7") == 7
        except StorageError:  # the thread has given its result, and is not back in the pool yet
            return False

    await eventually_awaited(ran)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


# -- atomic_write -------------------------------------------------------------------------------


def test_atomic_write_keeps_the_permissions_of_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic_write(path, b"one", mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    atomic_write(path, b"two", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_where_permissions_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "the mount decides")

    monkeypatch.setattr(os, "fchmod", refuse)
    path = tmp_path / "manifest.json"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    with pytest.raises(StorageError):
        atomic_write(tmp_path / "secret", b"x", mode=0o600)
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_atomic_write_replaces_what_a_link_names(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "a", tmp_path / "a"
    real.write_bytes(b"one")
    link.symlink_to(real)
    atomic_write(link, b"two")
    assert link.is_symlink()
    assert real.read_bytes() == b"two"


def test_atomic_write_does_not_leave_its_root(tmp_path: Path) -> None:
    (tmp_path / "take").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "take" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot write"):
        atomic_write(tmp_path / "take" / "link" / "a", b"x", root=Root.of(tmp_path / "take"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_atomic_write_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        atomic_write(path, b"new")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a": b"old"}


def test_unfinished_writes_are_removed(tmp_path: Path) -> None:
    for name in ("a", ".a.0123.new", ".a.0123.part", ".b.0123.new", "a.part"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path / "a")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".b.0123.new", "a", "a.part"]
    remove_unfinished(tmp_path / "missing" / "a")
