"""Checks of ``asynccam doctor``: each returns findings, and each problem comes with a fix."""

import asyncio
import ctypes
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

from asynccam.cli import formatting
from asynccam.cli.errors import one_line
from asynccam.errors import AsynccamError
from asynccam.runtime.timing import deadline


class Severity(StrEnum):
    """Severity of a finding."""

    GOOD = "good"
    NOTE = "note"
    """Something that only some uses need is missing."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    check: str  # its group, for example ``GStreamer``
    verdict: Severity
    found: str  # the finding in words
    cure: str = ""  # how to fix it; empty if nothing needs a fix


def _judge(check: str, found: str, cure: str, severity: Severity = Severity.NOTE) -> Finding:
    """Return a finding that needs a fix if there is a ``cure``, and is good without one."""
    return Finding(check, severity if cure else Severity.GOOD, found, cure)


_EXTRA_PACKAGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "server": (
        "the Snapshot server, simulated tokens, MQTT",
        ("paho-mqtt", "piexif", "pillow", "prometheus-client", "PyJWT"),
    ),
    "video": ("frames in memory, XDAQ metadata", ("av", "numpy")),
    "speed": ("a faster event loop, faster digests", ("uvloop", "blake3", "xxhash")),
}
_USES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "record test pictures to MP4": (
        "bad",
        ("videotestsrc", "videoconvert", "h264parse", "mp4mux", "filesink"),
    ),
    "record RTSP cameras": ("bad", ("rtspsrc", "rtph264depay", "rtph265depay", "h265parse", "matroskamux")),
    "record ThorVision streams": ("bad", ("srtsrc", "jpegparse", "splitmuxsink", "progressreport")),
    "record V4L2 cameras": ("note", ("v4l2src", "jpegdec")),
    "record to HLS": ("note", ("mpegtsmux", "hlssink2")),
    "simulate streams": ("note", ("jpegenc", "srtsink", "compositor")),
}
_ENCODERS: Final = ("x264enc", "openh264enc", "nvv4l2h264enc", "v4l2h264enc", "vah264enc")
_RECEIVED: Final[tuple[Literal["h264", "h265"], ...]] = ("h264", "h265")
_GSTREAMER_CURE: Final = (
    "apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    " gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
)
_LOW_SPACE: Final = 2_000_000_000
_FEW_FILES: Final = 1024
_MDNS_SECONDS: Final = 8.0
_CLOCK_ERROR: Final = 5  # TIME_ERROR, the state that adjtimex(2) reports while the clock is not synchronized
_PROBE_TYPE: Final = "_asynccam._tcp.local."
_PROBE_PORT: Final = 9  # discard: no client connects


def check_python() -> list[Finding]:
    """Check the interpreter, the extras and the limit of open files."""
    import resource
    from importlib.metadata import version

    found = [
        Finding("Python", Severity.GOOD, f"Python {sys.version.split()[0]}, asynccam {version('asynccam')}")
    ]
    for extra, (use, packages) in _EXTRA_PACKAGES.items():
        cure, text = "", f"extra {extra!r}: {use}"
        if missing := [name for name in packages if not _has(name)]:
            cure = f'pip install "asynccam[{extra}]"'
            text = f"extra {extra!r} ({use}) lacks {', '.join(missing)}"
        found.append(_judge("Python", text, cure))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    cure = "ulimit -n 4096, for hundreds of cameras" if files < _FEW_FILES else ""
    return [*found, _judge("Python", f"{files} files and sockets may be open at once", cure)]


async def check_gstreamer() -> list[Finding]:
    """Check which of the library's pipelines this computer can run."""
    from asynccam.recording.gstreamer import find_installation
    from asynccam.recording.sources import restores_decode_times

    try:
        tools = await find_installation()
    except AsynccamError as error:
        return [Finding("GStreamer", Severity.BAD, one_line(error), _GSTREAMER_CURE)]
    found = [_check_pipeline(use, how, needed, tools.elements) for use, (how, needed) in _USES.items()]
    encoders = [name for name in _ENCODERS if name in tools.elements]
    cure = "" if encoders else "apt install gstreamer1.0-plugins-ugly"
    found.append(_judge("GStreamer", f"encode H.264: {', '.join(encoders) or 'no encoder'}", cure))
    untimed = [codec for codec in _RECEIVED if not restores_decode_times(codec, tools.elements)]
    if untimed:
        lost = f"B frames of {' and '.join(untimed)} over RTP and RTSP would be recorded with wrong times"
        found.append(Finding("GStreamer", Severity.NOTE, lost, "GStreamer 1.22 or newer"))
    text, cure = "recordings are finished even if Python is killed", ""
    if not tools.guard:
        text = "setpriv --pdeathsig is missing: a recording is cut off if Python is killed"
        cure = "apt install util-linux (2.33 or newer)"
    return [*found, _judge("GStreamer", text, cure)]


def _check_pipeline(use: str, how: str, needed: Sequence[str], installed: frozenset[str]) -> Finding:
    missing = [name for name in needed if name not in installed]
    text, cure = (f"{use}: lacks {', '.join(missing)}", _GSTREAMER_CURE) if missing else (use, "")
    return _judge("GStreamer", text, cure, Severity(how))


async def check_mdns(interfaces: Sequence[str] | None) -> list[Finding]:
    """Check that a service announced here is also found here."""
    await asyncio.to_thread(import_module, "asynccam.net.mdns")  # which runs a program to find the C library
    from zeroconf import InterfaceChoice

    from asynccam.net.mdns import Interfaces, ServiceBrowser, announce

    where = f"on {', '.join(interfaces)}" if interfaces else "on all interfaces"
    name = f"doctor-{secrets.token_hex(6)}"
    chosen: Interfaces = list(interfaces) if interfaces else InterfaceChoice.All
    try:
        async with (
            deadline(_MDNS_SECONDS, f"own announcement {where}"),
            ServiceBrowser(_PROBE_TYPE, interfaces=chosen) as heard,
            announce(_PROBE_TYPE, name, _PROBE_PORT, interfaces=chosen),
        ):
            async for event in heard:
                if event.service.instance == name:
                    break
    except AsynccamError as error:
        cure = (
            "let UDP port 5353 and multicast 224.0.0.251 through (ufw allow 5353/udp),"
            " or name the interface: --interface IP"
        )
        return [Finding("mDNS", Severity.BAD, one_line(error), cure)]
    return [Finding("mDNS", Severity.GOOD, f"an announcement was heard {where}")]


def check_ports(ports: Iterable[tuple[str, int, bool]]) -> list[Finding]:
    """Check that ports, given as (use, port, is UDP), are free."""
    found = []
    for use, port, udp in ports:
        name, state, cure = f"{'UDP' if udp else 'TCP'} {port} ({use})", "is free", ""
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as probe:
                if not udp:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for an instant, never listened at
        except PermissionError:
            state = "needs a privilege"
            cure = f"--port with a number above 1023, or sysctl net.ipv4.ip_unprivileged_port_start={port}"
        except OSError:
            state = "is in use"
            cure = "--port with another number, or end the program that has it (ss -lptun shows which)"
        found.append(_judge("Ports", f"{name} {state}", cure))
    return found


def check_disk(directory: Path) -> list[Finding]:
    """Check that takes can be written to a directory, or to its nearest existing parent."""
    wanted = directory.absolute()
    place = next(path for path in (wanted, *wanted.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    cure = "make room, or keep takes elsewhere: --to DIR" if free < _LOW_SPACE else ""
    space = _judge("Disk", f"{formatting.format_size(free)} free at {place}", cure)
    text, cure = f"{place} can be written", ""
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".asynccam-") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        text = f"{place} cannot be written: {error.strerror}"
        cure = f"chown or chmod {place}, or keep takes elsewhere: --to DIR"
    return [space, _judge("Disk", text, cure, Severity.BAD)]


def check_devices(root: Path = Path("/dev")) -> list[Finding]:
    """Check that this user may open the V4L2 cameras of this computer."""
    devices = sorted(root.glob("video*"))
    if not devices:
        return [Finding("Cameras", Severity.GOOD, "no V4L2 camera on this computer")]
    found = []
    for device in devices:
        text, cure = f"{device} can be opened", ""
        if not os.access(device, os.R_OK | os.W_OK):
            text = f"{device} cannot be opened by this user"
            cure = "usermod --append --groups video USER, then log in again"
        found.append(_judge("Cameras", text, cure, Severity.BAD))
    return found


def check_kernel_clock(adjtimex: Callable[[], int | None] | None = None) -> list[Finding]:
    """Check whether the kernel reports a synchronized clock."""
    state = (adjtimex or _clock_state)()
    if state is None:
        return []
    if state != _CLOCK_ERROR:
        return [Finding("Clock", Severity.GOOD, "the kernel says that the clock is synchronized")]
    cure = "timedatectl set-ntp true, or install chrony; times in a manifest are this computer's"
    return [Finding("Clock", Severity.NOTE, "nothing synchronizes this computer's clock", cure)]


async def check_time_server(name: str) -> list[Finding]:
    """Measure this computer's clock against a time server."""
    for module in ("asynccam.net.clock", "asynccam.session.shared"):
        await asyncio.to_thread(import_module, module)
    from asynccam.session.shared import time_server

    try:
        offset = await time_server(name).query()
    except AsynccamError as error:
        return [Finding("Clock", Severity.BAD, one_line(error), "use another server, or open UDP port 123")]
    apart = formatting.format_offset(offset.offset, offset.bound)
    is_far = abs(offset.offset) - offset.bound >= 0.1
    cure = "synchronize this computer's clock, or give takes this server: --ntp" if is_far else ""
    return [_judge("Clock", f"{name} is {apart} from this computer", cure)]


def _has(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _clock_state() -> int | None:
    """Return the state that adjtimex(2) reports, or None where it does not exist."""
    if sys.platform != "linux":
        return None
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # struct timex, all of it zero
    return int(state) if state >= 0 else None
