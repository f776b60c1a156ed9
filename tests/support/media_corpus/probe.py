"""ffprobe's answers: the frames that decode, and the stretch of time that they cover."""

import hashlib
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.support.media_corpus.cache import keep_json, versions

_COMMAND: Final = (
    *("ffprobe", "-v", "quiet", "-threads", "1", "-select_streams", "v:0", "-show_entries"),
    *("frame=media_type,best_effort_timestamp_time,duration_time,pkt_duration_time", "-of", "compact=p=0"),
)
_PACKETS: Final = (
    *("ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_entries"),
    *("packet=pos,size", "-of", "compact=p=0"),
)
_DEADLINE: Final = 50.0
_FORM: Final = "lines"
"""Form that answers are kept in; a new form has a new name here, so that no old answer is read as one."""


@dataclass(frozen=True)
class Probe:
    """What ffprobe gets out of a file.

    Attributes:
        frames: Pictures of the first video stream that the decoder returns.
        duration: Seconds from the first to the end of the last, as presented; None without a frame.
        interval: Longest time between two of them in seconds, 0 where there are fewer than two.
    """

    frames: int
    duration: float | None
    interval: float


def probe(data: bytes, ending: str) -> Probe:
    """Let ffprobe decode a file, or return what it said of the same bytes before.

    Args:
        data: Content of the file.
        ending: Ending of the file's name; formats that are hard to tell apart are told by it.
    """
    frames = [
        # ffmpeg 6 renamed the length.
        (_number(line, "best_effort_timestamp_time"), _number(line, "duration_time", "pkt_duration_time"))
        for line in _lines(_COMMAND, data, ending)
        if line.get("media_type") == "video"
    ]
    timed = sorted((time, length or 0.0) for time, length in frames if time is not None)
    if not timed:
        return Probe(len(frames), None, 0.0)
    gaps = [after[0] - before[0] for before, after in pairwise(timed)]
    last = timed[-1][1] or (statistics.median(gaps) if gaps else 0.0)
    return Probe(len(frames), timed[-1][0] + last - timed[0][0], max(gaps, default=0.0))


def packets(data: bytes, ending: str) -> list[tuple[int, int]]:
    """Position and size of the coded pictures of a good file, as far as ffprobe knows them."""
    places = [(_number(line, "pos"), _number(line, "size")) for line in _lines(_PACKETS, data, ending)]
    return [(int(position), int(size)) for position, size in places if position is not None and size]


def _lines(command: tuple[str, ...], data: bytes, ending: str) -> list[dict[str, str]]:
    """The fields of each line that ffprobe prints."""
    digest = hashlib.sha256("\0".join((versions(), _FORM, ending, *command)).encode() + data).hexdigest()
    answer = keep_json(f"{digest[:24]}.json", lambda: _ask(command, data, ending))
    assert isinstance(answer, list)
    return [dict(field.split("=", 1) for field in line.split("|") if "=" in field) for line in answer]


def _ask(command: tuple[str, ...], data: bytes, ending: str) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"file{ending}"
        path.write_bytes(data)
        # ffprobe leaves with 1 where it finds nothing to decode: then there are no lines.
        run = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
    return run.stdout.splitlines()


def _number(line: dict[str, str], *names: str) -> float | None:
    text = next((line[name] for name in names if name in line), "N/A")
    return None if text == "N/A" else float(text)
