"""What ffprobe counts in a file, the reference for verdicts."""

import json
import subprocess
from pathlib import Path

_ENTRIES = ["-of", "json", "-show_entries", "stream=nb_read_frames,duration"]


def probe(path: Path) -> tuple[int, float | None]:
    """Frames of the first video track that decode, and its length in seconds."""
    done = subprocess.run(
        ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0", *_ENTRIES, str(path)],
        capture_output=True,
        check=False,
    )
    streams = json.loads(done.stdout or b"{}").get("streams") or [{}]
    frames, duration = streams[0].get("nb_read_frames"), streams[0].get("duration")
    return int(frames or 0), None if duration is None else float(duration)
