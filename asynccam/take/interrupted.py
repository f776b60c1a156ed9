"""Takes in a directory that lost their process, or were cut short: what is left of each for `resume_take`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from asynccam.errors import AsynccamError, BusyError
from asynccam.model.manifest import MANIFEST_NAME, Manifest
from asynccam.model.safe_files import Folder, Root, confined
from asynccam.runtime.disk import absolute_path, on_disk
from asynccam.runtime.tasks import finish
from asynccam.take.journal import JOURNAL_NAME, Journal
from asynccam.take.replay import Leftover, missing_files, read_leftover, replay
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)

_MOST: Final = 500
"""Takes that are looked at, the ones that were changed last."""


@dataclass(frozen=True, slots=True)
class InterruptedTake:
    """A take that nobody is at work on and that is not finished.

    Attributes:
        name: Its name.
        directory: Its own directory.
        cameras: Ids of all its cameras, with the addresses they had.
        left: Ids of those of which something is left to do.
        may_record: Ids of those that may record still.
        devices: Those of ``may_record`` that keep their recordings themselves. A recorder on this computer
            has ended with its process.
        ends_at: Elapsed time at which the take was to end, or None if it had no length.
    """

    name: str
    directory: Path
    cameras: Mapping[str, str]
    left: frozenset[str]
    may_record: frozenset[str]
    devices: frozenset[str]
    ends_at: float | None = None


async def interrupted_takes(directory: Path) -> list[InterruptedTake]:
    """Find the interrupted takes in a directory of takes; one that cannot be read is passed over and logged.

    A take that ended is among them if it was cut short, files of it are still at their cameras, and nobody
    has tried to resume it.
    """
    found = [await _look_at(path, has_journal) for path, has_journal in await on_disk(_candidates, directory)]
    return [one for one in found if one is not None]


async def _look_at(path: Path, has_journal: bool) -> InterruptedTake | None:
    try:
        if not has_journal:
            manifest = await Manifest.load(path / MANIFEST_NAME)
            return _described(replay(manifest, (), str(path)), path) if _was_cut(manifest) else None
        journal = Journal(path)
        try:
            entries = await journal.reopen(make=False)
            left = await read_leftover(path / MANIFEST_NAME, entries, str(path), journal.boot)
        finally:
            await finish(journal.close(remove=False))
        return _described(left, path)
    except BusyError:
        return None  # whoever runs it is alive
    except AsynccamError as error:
        _LOG.warning("%s is not looked at: %s", path, error)
        return None


def _described(left: Leftover, path: Path) -> InterruptedTake | None:
    with_work = [record for record in left.manifest.cameras if left.has_work(record)]
    if not with_work:
        return None
    devices = {one.id for one in with_work if one.kind == "video" and "files" in one.features}
    return InterruptedTake(
        path.name,
        path,
        MappingProxyType({record.id: record.address for record in left.manifest.cameras}),
        frozenset(record.id for record in with_work),
        frozenset(left.may_record),
        frozenset(left.may_record & devices),
        _end_of(left),
    )


def _end_of(left: Leftover) -> float | None:
    if left.t0 is None or left.manifest.duration is None:
        return None
    wall, elapsed = left.scale or (unix_now(), WALL_CLOCK.elapsed())
    return elapsed + (left.t0 - wall) + left.manifest.duration


def _was_cut(manifest: Manifest) -> bool:
    cut = any(error.step == "end" for error in manifest.errors) and not manifest.resumed
    return cut and any(missing_files(record) for record in manifest.cameras)


def _candidates(directory: Path) -> Sequence[tuple[Path, bool]]:
    """In a thread: the takes in a directory, and which of them have a journal; links are not followed."""
    takes: list[tuple[bool, float, Path]] = []
    try:
        paths = sorted(absolute_path(directory).iterdir())
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _LOG.warning("%s is not looked through: %s", directory, error)
        return ()
    for path in paths:
        try:
            if path.is_symlink() or not path.is_dir():
                continue
            with confined(Root.of(path)), Folder(path) as folder:
                has_journal = folder.find(JOURNAL_NAME) is not None
                if has_journal or folder.find(MANIFEST_NAME) is not None:
                    takes.append((has_journal, path.stat().st_mtime, path))
        except OSError as error:  # one that is gone, or closed to this user, hides no other
            _LOG.warning("%s is not looked at: %s", path, error)
    takes.sort(reverse=True)
    return [(path, has_journal) for has_journal, _, path in takes[:_MOST]]
