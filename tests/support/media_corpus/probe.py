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
_DEADLINE: Final = 50.0


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
    digest = hashlib.sha256("\0".join((versions(), ending, *_COMMAND)).encode() + data).hexdigest()
    answer = keep_json(f"{digest[:24]}.json", lambda: _ask(data, ending))
    assert isinstance(answer, list)
    return _summary(answer)


def _ask(data: bytes, ending: str) -> list[list[float | None]]:
    """Time and length of every frame, in the order in which they come."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"file{ending}"
        path.write_bytes(data)
        run = subprocess.run(
            [*_COMMAND, str(path)], capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
    # ffprobe leaves with 1 where it finds nothing to decode: then there are no lines.
    frames = []
    for line in run.stdout.splitlines():
        fields = dict(field.split("=", 1) for field in line.split("|") if "=" in field)
        if fields.get("media_type") == "video":
            # ffmpeg 6 renamed the length.
            length = fields.get("duration_time", fields.get("pkt_duration_time"))
            frames.append([_number(fields.get("best_effort_timestamp_time")), _number(length)])
    return frames


def _number(text: str | None) -> float | None:
    return None if text in (None, "N/A") else float(text)


def _summary(frames: list[list[float | None]]) -> Probe:
    timed = sorted((time, length) for time, length in frames if time is not None)
    if not timed:
        return Probe(len(frames), None, 0.0)
    gaps = [after[0] - before[0] for before, after in pairwise(timed)]
    last = timed[-1][1] or (statistics.median(gaps) if gaps else 0.0)
    return Probe(len(frames), timed[-1][0] + last - timed[0][0], max(gaps, default=0.0))
