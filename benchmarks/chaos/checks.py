"""A take held against what is known of it without asynccam: disks, processes, and what the pictures show."""

import asyncio
import hashlib
import re
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.controlled import Ended
from tests.support.day_codes import pictures_of, read_time
from tests.support.probe import probe

MEDIA: Final = frozenset({".mp4", ".mkv", ".mov", ".webm", ".ts", ".avi", ".jpg", ".jpeg", ".png"})
_LEFTOVERS: Final = (".part", ".interrupted")
_FOREIGN: Final = (
    "Traceback",
    "never retrieved",
    "was never awaited",
    "Exception in callback",
    "ResourceWarning",
)
_LOGGED: Final = re.compile(r"(?:ERROR|WARNING|CRITICAL):(\w+)")
"""The head of a line that a logger wrote, with the package it is for."""
_CODES: Final = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 130, 143})
"""Documented in docs/cli.md, but for an error in asynccam itself."""
_EDGE: Final = 1.8
"""Seconds that a recording called complete may lack at either end: a slow start is still one."""
_GAP: Final = 1.3
_BUSY: Final = 0.3
"""Seconds that a frame may be older on a busy computer than is assumed of one that is not."""
_CODE_LATE: Final = 0.5
_OUTAGE: Final = 5
"""How many times the usual interval is an outage."""


@dataclass
class Facts:
    """Facts of one round.

    Attributes:
        directory: The take's; it need not exist.
        manifest: Its manifest at the end, or None.
        entries: The lines of its journal that were seen.
        disks: What each device has on its disk, by system.
        recording: What each device still captures, by system.
        spoiled: Why pictures of a system cannot be expected to show the right time.
        ahead: Seconds by which the take's scale is ahead of the devices' time.
    """

    directory: Path
    manifest: dict[str, Any] | None = None
    entries: list[dict[str, Any]] = field(default_factory=list)
    disks: Mapping[str, list[Path]] = field(default_factory=dict)
    recording: Mapping[str, list[str]] = field(default_factory=dict)
    spoiled: Mapping[str, list[str]] = field(default_factory=dict)
    ahead: float = 0.0

    @property
    def cameras(self) -> list[dict[str, Any]]:
        return [] if self.manifest is None else self.manifest["cameras"]


def of_process(what: str, ended: Ended, signals: set[str]) -> Iterator[str]:
    """How a process ended, and what it said.

    Args:
        what: Names it.
        ended: The process.
        signals: What was done to it that ends it.
    """
    if ended.hung:
        yield f"{what} hung: it was still there after {ended.took:.0f} s"
        return
    for line in _foreign(ended.err):
        yield f"{what} printed: {line}"
    allowed = set(_CODES)
    if "kill" in signals:
        allowed.add(-9)
    # As a shell sees it, -2 is 130 and -15 is 143.
    if any("interrupt" in one for one in signals):
        allowed.add(-2)
    if any("terminate" in one for one in signals):
        allowed.add(-15)
    if ended.code not in allowed:
        yield f"{what} ended with {ended.code}: {ended.err.strip()[-300:]}"


def of_log(what: str, text: str) -> Iterator[str]:
    """Yield a finding for each line that a server should not have written."""
    for line in _foreign(text):
        yield f"{what} printed: {line}"


def _foreign(text: str) -> Iterator[str]:
    """Lines of tracebacks and complaints, but for errors that asynccam itself has logged."""
    lines = text.splitlines()
    logged = False
    for number, line in enumerate(lines):
        if head := _LOGGED.match(line):
            logged = head[1] == "asynccam"
        if logged or not any(word in line for word in _FOREIGN):
            continue
        where = lines[-2:] if "Traceback" in line else lines[number + 1 : number + 2]
        yield " | ".join((line, *where))


def of_directory(facts: Facts) -> Iterator[str]:
    """Files in the take's directory that no manifest knows, and temporary ones."""
    if not facts.directory.exists():
        return
    known = {
        one for camera in facts.cameras for file in camera["files"] for one in (file["path"], file["part"])
    }
    for path in sorted(facts.directory.rglob("*")):
        name = path.relative_to(facts.directory).as_posix()
        if path.is_dir() or name in known:
            continue
        if path.suffix.lower() in MEDIA or path.name.endswith(_LEFTOVERS):
            yield f"{name} of {path.stat().st_size} bytes is in no manifest"
        elif path.name.startswith(".") or path.name.endswith((".new", ".tmp")):
            yield f"{name} was left behind"
    for camera in facts.cameras:
        for file in camera["files"]:
            for one in (file["path"], file["part"]):
                if one and not (facts.directory / one).exists():
                    yield f"{one} is in the manifest and not on the disk"


def of_disks(facts: Facts) -> Iterator[str]:
    """Files on the devices' disks that no manifest speaks of."""
    for system, paths in facts.disks.items():
        records = [one for one in facts.cameras if one["system"] == system]
        names = {file["name"] for record in records for file in record["files"]}
        for path in paths:
            doubted = any(record["errors"] for record in records) or not records
            if path.name not in names and not doubted:
                yield f"{path.name} on the disk of {system} is in no manifest, and nothing speaks of it"


def of_recording(facts: Facts) -> Iterator[str]:
    """Cameras that still record, though the manifest does not say so."""
    for system, commands in facts.recording.items():
        if not commands:
            continue
        records = [one for one in facts.cameras if one["system"] == system]
        outcome = None if facts.manifest is None else facts.manifest["outcome"]
        said = any(error["step"] == "stop" for one in records for error in one["errors"])
        # What the manifest says of it, somebody can still do something about.
        resumable = said and (facts.directory / "journal.jsonl").exists()
        # A stream that nobody receives is not a recording.
        streams = any("may still stream" in one["stop_status"] for one in records)
        if not resumable and not streams:
            yield f"{system} still records, and the manifest ({outcome}) does not say so"


def of_outcomes(facts: Facts, code: int | None) -> Iterator[str]:
    """Outcomes that contradict each other or the exit code."""
    if facts.manifest is None:
        return
    outcome = facts.manifest["outcome"]
    whole = outcome in ("complete", "resumed")
    if whole and facts.manifest["missing"]:
        yield f"the take is {outcome} without {[one['address'] for one in facts.manifest['missing']]}"
    for camera in facts.cameras:
        if whole and camera["outcome"] != "complete":
            yield f"the take is {outcome}, its camera {camera['id']} is {camera['outcome']}"
        if camera["outcome"] == "complete" and not camera["files"]:
            yield f"{camera['id']} is complete without a file"
        if camera["outcome"] == "running" and outcome != "running":
            yield f"the take is {outcome}, its camera {camera['id']} is running"
    if code == 0 and not whole:
        yield f"the command ended with 0 for a take that is {outcome}"
    if code == 8 and whole:
        yield f"the command ended with 8 for a take that is {outcome}"


async def of_files(facts: Facts) -> list[str]:
    """Verdicts and times that what is in the files contradicts."""
    found: list[str] = []
    for camera in facts.cameras:
        films: list[Film] = []
        for file in camera["files"]:
            if file["state"] != "arrived" or not file["path"]:
                continue
            path = facts.directory / file["path"]
            if not path.exists():
                continue  # told by `of_directory`
            found += _of_file(path, file, facts.disks.get(camera["system"], []))
            complete = (file["verdict"] or {}).get("verdict") == "complete"
            if complete and camera["kind"] == "video" and (film := await _film(path)):
                films.append(film)
        if not facts.spoiled.get(camera["system"]):
            found += _of_times(facts, camera, films)
    return found


def _of_file(path: Path, file: dict[str, Any], disk: list[Path]) -> Iterator[str]:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != file["size"] or (file["sha256"] and digest != file["sha256"]):
        yield f"{path.name} is not the file that the manifest describes"
    for original in disk:
        if original.name == file["name"] and file["source"] == "device" and original.read_bytes() != data:
            yield f"{path.name} differs from the device's own"
    verdict = file["verdict"] or {}
    if verdict.get("verdict") != "complete":
        return
    frames, _ = probe(path)
    if verdict["frames"] is not None and abs(verdict["frames"] - frames) > _not_decoded(path, file):
        yield f"{path.name} has {frames} frames and not {verdict['frames']}"
    if not frames:
        yield f"{path.name} is called complete, and nothing in it decodes"
    checked = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if checked.returncode:
        yield f"{path.name} is called complete, and ffmpeg says: {checked.stderr.strip()[:200]}"


@dataclass(frozen=True)
class Film:
    """Reading of one video.

    Attributes:
        first: When its first picture was made, by the devices' clock; None if nothing tells.
        shown: The time of day in each picture that has one, by the devices' clock.
        interval: Seconds that usually lie between two pictures.
    """

    first: float | None
    shown: tuple[float, ...]
    interval: float


async def _film(path: Path) -> Film | None:
    """The video at a path; None if fewer than two times can be read in it.

    A server that was busy shows times that are too late, never too early. So the earliest first frame that
    any picture speaks for is the right one.
    """
    near = path.stat().st_mtime
    width, pictures = await pictures_of(path)
    codes = [read_time(picture, width, near=near) for picture in pictures]
    stamps = await asyncio.to_thread(_stamps, path)
    read = [(code, stamp) for code, stamp in zip(codes, stamps, strict=False) if code is not None]
    if len(read) < 2:
        return None
    interval = statistics.median(b - a for a, b in pairwise(stamps))
    # What comes after an outage may come late, all of it at once.
    until = next((a for a, b in pairwise(stamps) if b - a > _OUTAGE * interval), stamps[-1])
    first = min((code - (stamp - stamps[0]) for code, stamp in read if stamp <= until), default=None)
    return Film(first, tuple(code for code, _ in read), interval)


def _not_decoded(path: Path, file: dict[str, Any]) -> int:
    """How many frames of a stream may be there and not decode: from a loss up to the next key frame."""
    if file["source"] == "device":
        return 0
    shown = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,flags"]
    done = subprocess.run([*shown, "-of", "csv=p=0", str(path)], capture_output=True, text=True, check=False)
    packets = [line.split(",") for line in done.stdout.split()]
    times = [float(packet[0]) for packet in packets]
    usual = statistics.median(b - a for a, b in pairwise(times)) if len(times) > 1 else 0.0
    spoiled, count = False, 0
    for before, (time, packet) in zip([*times[:1], *times], zip(times, packets, strict=True), strict=False):
        spoiled = "K" not in packet[1] and (spoiled or time - before > 2 * usual)
        count += spoiled
    return count


def _stamps(path: Path) -> list[float]:
    """When each picture is shown, in order, in seconds of the video."""
    shown = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        "frame=best_effort_timestamp_time",
    ]
    done = subprocess.run([*shown, "-of", "csv=p=0", str(path)], capture_output=True, text=True, check=False)
    return [float(word) for line in done.stdout.split() if (word := line.strip(",")) not in ("", "N/A")]


def _of_times(facts: Facts, camera: dict[str, Any], films: list[Film]) -> Iterator[str]:
    if not films:
        return
    first = films[0]
    if first.first is not None:
        yield from _of_first_frame(facts, camera, first.first, first.interval)
    if camera["outcome"] == "complete":
        shown = sorted(one for film in films for one in film.shown)
        gap = max(b - a for a, b in pairwise(shown))
        begin = shown[0] if first.first is None else first.first
        yield from _of_coverage(facts, camera, begin, shown[-1], gap)


def _of_first_frame(facts: Facts, camera: dict[str, Any], first: float, interval: float) -> Iterator[str]:
    at, bound = camera["first_frame_at"], camera["first_frame_bound"]
    if at is None or bound is None:
        return
    error = first + facts.ahead - at["unix"]
    # A busy server shows times that are too late.
    if not -bound - 2 * interval - _BUSY <= error <= bound + 2 * interval + _CODE_LATE:
        source = camera["first_frame_source"]
        yield (
            f"the first frame of {camera['id']} was {error:+.3f} s from where the manifest has it,"
            f" by {source}, with a bound of {bound:.3f} s"
        )


def _of_coverage(
    facts: Facts, camera: dict[str, Any], first: float, last: float, gap: float
) -> Iterator[str]:
    """Yield a finding if a camera that is called complete lacks a part of the time that was asked for."""
    manifest = facts.manifest
    assert manifest is not None
    if manifest["start"] is None or manifest["duration"] is None:
        return
    begin = manifest["start"]["t0_local"]["unix"] - facts.ahead
    end = begin + manifest["duration"]
    stops = [one["at"] - facts.ahead for one in facts.entries if one.get("event") == "stopping"]
    # `resume` ends at once what a take that died left recording; the outcome of the take says so.
    stops += [one["unix"] - facts.ahead for one in manifest["resumed"]]
    end = min([end, *stops])
    if first > begin + _EDGE:
        yield f"{camera['id']} is complete, and its first picture is {first - begin:.2f} s after T0"
    if last < end - _EDGE:
        yield f"{camera['id']} is complete, and its last picture is {end - last:.2f} s before the end"
    if gap > _GAP:
        yield f"{camera['id']} is complete, and {gap:.2f} s are missing in its middle"
