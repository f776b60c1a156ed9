"""Lock of directories."""

from pathlib import Path

import pytest

from asynccam.errors import BusyError, StorageError
from asynccam.systems.snapshot.server.service import lock_directories


async def test_lock_excludes_others_until_released(tmp_path: Path) -> None:
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


async def test_lock_accepts_the_same_directory_twice(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    async with lock_directories(tmp_path, tmp_path, link):
        pass


async def test_lock_of_invalid_directory_is_a_storage_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for wanted in (file, file / "below"):
        with pytest.raises(StorageError):
            async with lock_directories(tmp_path, wanted):
                raise AssertionError
    async with lock_directories(tmp_path):
        pass
