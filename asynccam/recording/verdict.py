"""Verdicts: what is really in a recorded file, found by reading it.

The containers' own structure is read here, so no player has to be installed: GStreamer's demuxers
cannot be asked, because they play a truncated file to its early end without a word. Decoding every
picture as well is possible with GStreamer, and slow.
"""

import asyncio
import threading
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from asynccam.errors import AsynccamError, NotFoundError, RecordingError, StorageError
from asynccam.recording.fileview import AbortedError, FileView, Scan
from asynccam.recording.gstlaunch import Element, Graph
from asynccam.recording.installation import find_installation
from asynccam.recording.jpeg import is_jpeg, scan_jpeg
from asynccam.recording.matroska import is_matroska, scan_matroska
from asynccam.recording.messages import Failure, FrameSeen, LaunchReader, parse_line
from asynccam.recording.mp4 import is_mp4, scan_mp4
from asynccam.recording.mpegts import is_mpegts, scan_mpegts
from asynccam.recording.outputs import FileSet
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.runtime.timing import deadline

_HEAD: Final = 512


class Verdict(Enum):
    """What a recorded file is worth."""

    COMPLETE = "complete"
    """Finished by its muxer, and whole: it plays to its end."""
    TRUNCATED = "truncated"
    """There is something in it, but its end, its index or some of its pictures are missing."""
    EMPTY = "empty"
    """Not one frame."""


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What is in a file.

    Attributes:
        path: The file.
        verdict: What it is worth.
        frames: Video frames in it, or None where the part that tells is missing.
        duration: Seconds, or None.
        size: Bytes.
        detail: What is wrong with it in a sentence, or ``""``.
        interval: Longest time between two frames that came up more than once, in seconds, or None.
    """

    path: Path
    verdict: Verdict
    frames: int | None
    duration: float | None
    size: int
    detail: str = ""
    interval: float | None = None


async def verify_file(path: Path, *, timeout: float = 60.0, decode: bool = False) -> FileVerdict:
    """Read a file's structure to its end (MP4, QuickTime, Matroska, WebM, MPEG-TS, JPEG), off the loop.

    Args:
        path: The file.
        timeout: Seconds it may take.
        decode: Also decode every picture with GStreamer; takes as long as that takes.

    Raises:
        NotFoundError: There is no such file.
        StorageError: It cannot be read.
        RecordingError: Decoding was asked for and GStreamer is missing.
        TimeoutError: It took longer.
    """
    abort = threading.Event()
    try:
        async with deadline(timeout, f"verdict on {path.name}"):
            verdict = await asyncio.to_thread(_read, path, abort)
            if decode and verdict.verdict is Verdict.COMPLETE:
                verdict = await _decoded(verdict)
            return verdict
    finally:
        abort.set()


async def verify_files(files: FileSet, *, decode: bool = False) -> list[FileVerdict]:
    """The verdict on every file of a set, oldest first; what cannot be read is not called whole.

    Raises:
        StorageError: The directory cannot be read.
    """
    verdicts: list[FileVerdict] = []
    for path, size in (await asyncio.to_thread(files.sizes)).items():
        try:
            verdicts.append(await verify_file(path, decode=decode))
        except AsynccamError as error:
            verdicts.append(FileVerdict(path, Verdict.TRUNCATED, None, None, size, str(error)))
    return verdicts


def _read(path: Path, abort: threading.Event) -> FileVerdict:
    try:
        with FileView(path, abort) as view:
            size = view.size
            scan = _scan(view)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except AbortedError:
        raise StorageError(f"reading {path} was given up") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    if scan.frames == 0:
        return FileVerdict(path, Verdict.EMPTY, 0, None, size, scan.flaw or "holds no frame")
    verdict = Verdict.TRUNCATED if scan.flaw else Verdict.COMPLETE
    return FileVerdict(path, verdict, scan.frames, scan.duration, size, scan.flaw, scan.interval)


def _scan(view: FileView) -> Scan:
    if not view.size:
        return Scan(0, None, "has no bytes")
    head = view.read(0, min(_HEAD, view.size))
    if is_matroska(head):
        return scan_matroska(view)
    if is_mp4(head):
        return scan_mp4(view)
    if is_mpegts(head):
        return scan_mpegts(view)
    if is_jpeg(head):
        return scan_jpeg(view)
    return Scan(None, None, "is no MP4, Matroska, MPEG-TS or JPEG file")


async def _decoded(verdict: FileVerdict) -> FileVerdict:
    """The verdict after every picture went through a decoder."""
    tools = await find_installation({"filesrc", "decodebin", "identity", "fakesink"})
    source = Element("filesrc", {"location": str(verdict.path.absolute())})
    counter = Element("identity", {"silent": False})
    graph = Graph(((source, Element("decodebin"), counter, Element("fakesink", {"sync": False})),))
    reader = LaunchReader()
    decoded = 0

    def count(data: bytes) -> None:
        nonlocal decoded
        decoded += sum(isinstance(message, FrameSeen) for message in reader.feed(data))

    process = await LaunchProcess.start([*tools.guard, tools.launch, "-v", *graph.arguments()], count)
    try:
        code = await process.wait()
    finally:
        # Nothing is being written, so there is nothing to wait for.
        await process.stop(StopDeadlines(interrupt=0.1, terminate=0.5))
    failures = [one.text for one in map(parse_line, process.errors.splitlines()) if isinstance(one, Failure)]
    if code < 0:
        raise RecordingError(
            f"decoding {verdict.path.name} was ended by signal {-code}", output=process.errors
        )
    if failures or (verdict.frames is not None and decoded < verdict.frames):
        reason = f": {failures[0]}" if failures else ""
        detail = f"only {decoded} of {verdict.frames} frames decode{reason}"
        return replace(verdict, verdict=Verdict.TRUNCATED, detail=detail)
    return verdict
