"""Media files for the tests of readers, and what ffprobe says of them."""

import subprocess
import threading
from pathlib import Path

from asynccam.recording.containers.reader import FileView, Scan
from asynccam.recording.containers.scan import scan_file

PICTURE = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.8"]
FRAMES = 20


def ffmpeg(path: Path, *options: str) -> Path:
    """Write a file of 0.8 s, 20 frames, with ffmpeg."""
    words = ["ffmpeg", "-v", "error", "-y", *PICTURE, *options, str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


def gstreamer(path: Path, chain: str) -> Path:
    """Write a file of 20 frames at 25 a second with GStreamer; the chain begins with an encoder."""
    source = f"videotestsrc num-buffers={FRAMES} ! video/x-raw,width=64,height=48,framerate=25/1"
    words = f"{source} ! {chain} ! filesink location={path}".split()
    subprocess.run(["gst-launch-1.0", "-q", *words], check=True)
    return path


def scan(path: Path) -> Scan:
    with FileView(path, threading.Event()) as view:
        return scan_file(view)


def scan_bytes(directory: Path, data: bytes, name: str = "file") -> Scan:
    path = directory / name
    path.write_bytes(data)
    return scan(path)


def decoded(path: Path) -> int:
    """Frames of the first video stream that ffprobe decodes."""
    words = ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0"]
    shown = ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    done = subprocess.run([*words, *shown], capture_output=True, text=True, check=False)
    found = done.stdout.strip().strip(",")
    return int(found) if found.isdigit() else 0


def word(found: Scan) -> str:
    """The verdict's word for a scan, in the order that verdicts are given."""
    if not found.understood:
        return "unknown"
    if found.truncated:
        return "truncated"
    if found.damaged:
        return "damaged"
    return "empty" if found.frames == 0 else "complete"
