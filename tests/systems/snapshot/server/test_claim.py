"""One server to a directory."""

from pathlib import Path

import pytest

from asynccam.errors import BusyError, StorageError
from asynccam.systems.snapshot.server.directory_lock import lock_directories


async def test_a_directory_is_kept_from_others_and_let_go_of(tmp_path: Path) -> None:
    one, other = tmp_path / "deep" / "one", tmp_path / "other"
    async with lock_directories(one, tmp_path):
        for wanted in ((one,), (tmp_path,), (other, one), (tmp_path / "deep" / ".." / "deep" / "one",)):
            with pytest.raises(BusyError, match="uses"):
                async with lock_directories(*wanted):
                    raise AssertionError
        async with lock_directories(other):
            pass
    async with lock_directories(other, one):
        pass
    assert list(one.iterdir()) == []


async def test_one_directory_may_serve_for_both(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    async with lock_directories(tmp_path, tmp_path, link):
        pass


async def test_what_cannot_be_a_directory_is_a_storage_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for wanted in (file, file / "below"):
        with pytest.raises(StorageError):
            async with lock_directories(tmp_path, wanted):
                raise AssertionError
    async with lock_directories(tmp_path):
        pass
