"""Verdicts: the contents of a recorded file, found by reading it.

The containers' own structure is read here, so no player has to be installed: GStreamer's demuxers play a
truncated file to its early end without an error. Decoding every picture as well is possible with GStreamer,
and slow.
"""

import asyncio
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from asynccam.errors import AsynccamError, NotFoundError, RecordingError, StorageError
from asynccam.recording.bus_messages import FrameSeen, LaunchReader, first_error
from asynccam.recording.containers.reader import AbortedError, FileView, Scan
from asynccam.recording.containers.scan import scan_file
from asynccam.recording.elements import Graph, GstElement
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.media_files import MediaFiles
from asynccam.recording.outputs import FileSet
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.runtime.disk import on_disk
from asynccam.runtime.timing import deadline


class Verdict(Enum):
    """Contents of a recorded file, compared with what it should hold. See docs/recording.md."""

    COMPLETE = "complete"
    """Everything that the file announces is in it."""
    TRUNCATED = "truncated"
    """The end is missing."""
    DAMAGED = "damaged"
    """Something inside is missing or spoiled: lost packets, zeroed stretches, broken pictures."""
    EMPTY = "empty"
    """The whole file was read, and it holds no frame."""
    UNKNOWN = "unknown"
    """The format is not understood; only size and digest are known."""

    @property
    def is_failure(self) -> bool:
        """Return whether the file is known not to hold what it should."""
        return self in _FAILURES


_FAILURES: Final = frozenset({Verdict.TRUNCATED, Verdict.DAMAGED, Verdict.EMPTY})


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """Verdict on a file.

    Attributes:
        path: The file.
        verdict: The verdict in a word.
        frames: Video frames that are really there and that a player shows, or None where that is unknown.
        duration: Presentation time of these frames in seconds, or None where that is unknown.
        size: Bytes.
        detail: Flaws and remarks, in a sentence, or ``""``.
        interval: Longest time between two frames that occurred more than once, in seconds, or None.
        longest: Longest time between two frames, which may be an outage, in seconds, or None.
    """

    path: Path
    verdict: Verdict
    frames: int | None
    duration: float | None
    size: int
    detail: str = ""
    interval: float | None = None
    longest: float | None = None


async def verify_file(path: Path, *, timeout: float = 60.0, decode: bool = False) -> FileVerdict:
    """Read a file's structure to its end, off the loop, and return the verdict.

    Args:
        path: The file.
        timeout: Seconds it may take.
        decode: Also decode every picture with GStreamer; takes as long as that takes.

    Raises:
        NotFoundError: The file does not exist.
        StorageError: It cannot be read.
        RecordingError: Decoding was asked for and GStreamer is missing.
        TimeoutError: It took longer.
    """
    abort = threading.Event()
    try:
        async with deadline(timeout, f"verdict on {path.name}"):
            verdict = await asyncio.to_thread(_scan, path, abort)
            if decode and verdict.verdict is Verdict.COMPLETE:
                verdict = await _decoded(verdict)
            return verdict
    finally:
        abort.set()


async def verify_files(files: FileSet, *, decode: bool = False) -> list[FileVerdict]:
    """Return the verdict on every file of a set, oldest first; a file that cannot be read is unknown.

    Raises StorageError if the directory cannot be read.
    """
    verdicts: list[FileVerdict] = []
    for path, size in (await asyncio.to_thread(files.sizes)).items():
        try:
            verdicts.append(await verify_file(path, decode=decode))
        except AsynccamError as error:
            verdicts.append(FileVerdict(path, Verdict.UNKNOWN, None, None, size, str(error)))
    return verdicts


def _scan(path: Path, abort: threading.Event) -> FileVerdict:
    try:
        with FileView(path, abort) as view:
            size = view.size
            scan = scan_file(view)
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except AbortedError:
        raise StorageError(f"timed out reading {path}") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    return _verdict(path, size, scan)


def _verdict(path: Path, size: int, scan: Scan) -> FileVerdict:
    """Return the verdict on a scan: a missing end outweighs damage, and damage outweighs having no frame."""
    if not scan.understood:
        verdict = Verdict.UNKNOWN
    elif scan.truncated:
        verdict = Verdict.TRUNCATED
    elif scan.damaged:
        verdict = Verdict.DAMAGED
    elif scan.frames == 0:
        verdict = Verdict.EMPTY
    else:
        verdict = Verdict.COMPLETE
    sentences = [sentence for sentence in (scan.truncated, scan.damaged, scan.note) if sentence]
    detail = "; ".join(sentences) or ("holds no frame" if verdict is Verdict.EMPTY else "")
    return FileVerdict(path, verdict, scan.frames, scan.duration, size, detail, scan.interval, scan.longest)


async def _decoded(verdict: FileVerdict) -> FileVerdict:
    """Return the verdict after decoding every picture."""
    reader = LaunchReader()
    decoded = 0

    def count(data: bytes) -> None:
        nonlocal decoded
        decoded += sum(isinstance(message, FrameSeen) for message in reader.feed(data))

    with closing(MediaFiles()) as files:
        await on_disk(files.open, (verdict.path,))
        tools = await find_installation({"filesrc", "decodebin", "identity", "fakesink"})
        counter = GstElement("identity", {"silent": False})
        graph = Graph(((*files.decoded(verdict.path), counter, GstElement("fakesink", {"sync": False})),))
        # -v: only then an identity's report of each frame is printed.
        argv = [*tools.guard, tools.launch, "-v", *graph.arguments()]
        process = await LaunchProcess.start(argv, count, pass_fds=files.fds)
        try:
            code = await process.wait()
        finally:
            # Nothing is being written, so there is nothing to wait for.
            await process.stop(StopDeadlines(interrupt=0.1, terminate=0.5))
    failure = first_error(process.errors)
    if code < 0:
        raise RecordingError(
            f"decoding {verdict.path.name} was ended by signal {-code}", output=process.errors
        )
    if failure is not None or (verdict.frames is not None and decoded < verdict.frames):
        reason = "" if failure is None else f": {failure.text}"
        detail = f"only {decoded} of {verdict.frames} frames decode{reason}"
        return replace(verdict, verdict=Verdict.DAMAGED, detail=detail)
    return verdict
