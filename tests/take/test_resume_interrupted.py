"""Finding takes that lost their process, beside others that cannot be looked at."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.model.manifest import MANIFEST_NAME, Manifest
from asynccam.take import Alignment, Take, resume_take
from asynccam.take.resume import interrupted_takes
from asynccam.take.store import JOURNAL_NAME, Journal
from tests.support.scripted_camera import ScriptedCamera
from tests.take.test_journal import Held, left_behind

_NOBODY = 65534


@contextmanager
def without_rights(directory: Path) -> Iterator[None]:
    """Be a user who owns a directory and whom permissions bind, which they do not do for root."""
    if os.geteuid() != 0:
        yield
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, _NOBODY, -1)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_interrupted_takes_beside_an_unreadable_directory() -> None:
    with tempfile.TemporaryDirectory() as place:  # below directories that everybody may pass
        directory = Path(place)
        await left_behind(directory, ScriptedCamera("one"))
        closed = [directory / f"closed-{number:02}" for number in range(20)]
        for path in closed:
            path.mkdir(mode=0)
        try:
            with without_rights(directory):
                found = await interrupted_takes(directory)
        finally:
            for path in closed:
                path.chmod(0o700)
    assert [(one.name, one.left) for one in found] == [("dead", frozenset({"scripted://one"}))]


async def test_interrupted_takes_makes_no_journal(tmp_path: Path) -> None:
    directory = await left_behind(tmp_path, ScriptedCamera("one"))
    (directory / JOURNAL_NAME).unlink()
    with pytest.raises(StorageError):
        await Journal(directory).reopen(make=False)
    assert sorted(path.name for path in directory.iterdir()) == [MANIFEST_NAME, "one"]


async def test_home_of_an_unknown_user_raises_an_asynccam_error(tmp_path: Path) -> None:
    nowhere = Path("~no-such-user/takes")
    assert await interrupted_takes(nowhere) == []
    with pytest.raises(StorageError):
        await resume_take(nowhere, Held())
    with pytest.raises(StorageError):
        await Manifest.load(nowhere)
    with pytest.raises(StorageError):
        await Alignment.load(nowhere)
    async with Take([ScriptedCamera("one")], nowhere) as take:
        with pytest.raises(StorageError, match="no-such-user"):
            await take.arm()


async def test_interrupted_takes_in_a_directory_named_like_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = await left_behind(tmp_path, ScriptedCamera("one"))
    directory.rename(tmp_path / "~no-such-user")
    monkeypatch.chdir(tmp_path)
    assert (await Manifest.load("~no-such-user")).cameras
