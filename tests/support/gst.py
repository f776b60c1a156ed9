"""GStreamer on the other side of a test: senders, and the player that proves a file plays."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.support.waiting import eventually

LAUNCH = "gst-launch-1.0"


def free_udp_port() -> int:
    """A UDP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def listened_at(port: int) -> None:
    """Wait until somebody listens at a UDP port."""

    def taken() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                return True
        return False

    await eventually(taken)


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A ``gst-launch-1.0`` that is killed at the end, whatever happened to it."""
    process = await asyncio.create_subprocess_exec(
        LAUNCH, "-q", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def picture(fps: int = 20, pattern: str = "ball") -> list[str]:
    """A small live picture."""
    caps = f"video/x-raw,format=I420,width=64,height=48,framerate={fps}/1"
    return ["videotestsrc", "is-live=true", f"pattern={pattern}", "!", caps]


def srt_sender(port: int) -> list[str]:
    """Motion JPEG on an SRT listener, as a ThorVision server sends it."""
    sink = [
        "srtsink",
        f"uri=srt://127.0.0.1:{port}?mode=listener",
        "latency=20",
        "wait-for-connection=true",
    ]
    return [*picture(), "!", "jpegenc", "!", *sink]


def rtp_sender(port: int, codec: str = "h264") -> list[str]:
    """RTP over UDP to a port of 127.0.0.1."""
    speed = ["speed-preset=ultrafast", "tune=zerolatency", "key-int-max=5"]
    encode = [codec.replace("h", "x", 1) + "enc", *speed]
    pay = [f"rtp{codec}pay", "config-interval=-1", "pt=96"]
    return [*picture(), "!", *encode, "!", *pay, "!", "udpsink", "host=127.0.0.1", f"port={port}"]


def b_frame_sender(port: int, codec: str, frames: int = 0) -> list[str]:
    """RTP over UDP to a port of 127.0.0.1, three B frames between two others, a key frame a second.

    Args:
        port: Where to send.
        codec: ``h264`` or ``h265``.
        frames: How many are sent, 0 for no end.
    """
    source = picture()
    source[1:1] = [f"num-buffers={frames}"] if frames else []
    encode = ["speed-preset=ultrafast", "key-int-max=20"]
    if codec == "h264":
        encode = ["x264enc", "bframes=3", "b-adapt=false", *encode]
    else:
        encode = ["x265enc", "option-string=bframes=3:b-adapt=0:rc-lookahead=4:log-level=none", *encode]
    pay = [f"rtp{codec}pay", "config-interval=-1", "pt=96"]
    return [*source, "!", *encode, "!", *pay, "!", "udpsink", "host=127.0.0.1", f"port={port}"]


async def shown_times(path: Path) -> list[float]:
    """When a player shows each frame of a file, in order, by ffprobe."""
    arguments = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    process = await asyncio.create_subprocess_exec(
        *["ffprobe", *arguments, str(path)], stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return [float(line.strip(b",")) for line in output.split()]


async def packets(path: Path) -> list[tuple[float, str]]:
    """When each packet of a file is decoded, in order, and ``K`` for a key frame, by ffprobe."""
    arguments = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=dts_time,flags"]
    process = await asyncio.create_subprocess_exec(
        *["ffprobe", *arguments, "-of", "csv=p=0", str(path)], stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    rows = [line.decode().split(",") for line in output.split()]
    return [(float(row[0]) if row[0] != "N/A" else float("nan"), row[1][:1]) for row in rows]


async def decoded_frames(path: Path) -> int:
    """Frames that a player gets out of a file, counted by GStreamer's own bytes, four to a frame.

    Raises:
        AssertionError: The file does not play.
    """
    shrink = ["videoconvert", "!", "videoscale", "!", "video/x-raw,format=GRAY8,width=1,height=1"]
    location = str(path).replace("\\", "\\\\").replace('"', '\\"')
    process = await asyncio.create_subprocess_exec(
        *[LAUNCH, "-q", "filesrc", f'location="{location}"', "!", "decodebin", "!", *shrink],
        *["!", "fdsink", "fd=1", "sync=false"],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return len(output) // 4


def gst_processes(path: Path) -> list[int]:
    """Processes whose command names a path."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if str(path).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def recorder_process(path: Path) -> int:
    """The one ``gst-launch-1.0`` that records to a path."""
    (pid,) = [
        pid for pid in gst_processes(path) if Path(f"/proc/{pid}/comm").read_text() == "gst-launch-1.0\n"
    ]
    return pid


def freeze(pid: int) -> None:
    """Stop a process in its tracks."""
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    """Let a frozen process go on."""
    os.kill(pid, signal.SIGCONT)
