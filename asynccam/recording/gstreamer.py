"""GStreamer as installed on this computer, looked up off the loop and remembered."""

import asyncio
import functools
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from asynccam.errors import RecordingError

_INSPECT_TIMEOUT: Final = 30.0
"""The first lookup on a fresh machine scans every plugin; later ones take 20 ms."""

_PACKAGES: Final[dict[str, str]] = {
    "libgstreamer1.0-0": "capsfilter clocksync concat fakesink fdsink fdsrc filesink filesrc identity queue"
    " tee",
    "gstreamer1.0-plugins-base": "compositor decodebin rawvideoparse videoconvert videorate videoscale"
    " videotestsrc",
    "gstreamer1.0-plugins-good": "imagefreeze jpegdec jpegenc matroskamux mp4mux multifilesink pngenc"
    " progressreport qtmux rtph264depay rtph264pay rtph265depay rtph265pay rtpjitterbuffer rtpvp8pay"
    " rtpvp9pay rtspsrc splitmuxsink udpsink udpsrc v4l2src videoflip vp8enc vp9enc",
    "gstreamer1.0-plugins-bad": "gdpdepay gdppay h264parse h264timestamper h265parse"
    " h265timestamper hlssink2 jpegparse mpegtsmux openh264enc srtsrc x265enc",
    "gstreamer1.0-plugins-ugly": "x264enc",
}
_PACKAGE_OF: Final = {name: package for package, names in _PACKAGES.items() for name in names.split()}


@dataclass(frozen=True, slots=True)
class Installation:
    """GStreamer tools of this computer."""

    launch: str  # path of ``gst-launch-1.0``
    elements: frozenset[str]  # names of the installed elements
    # Prefix that interrupts a command when its parent dies; empty where ``setpriv --pdeathsig`` is missing.
    guard: tuple[str, ...]

    def require(self, elements: Iterable[str]) -> None:
        """Raise RecordingError, with each missing element and its Debian package, if any is missing."""
        missing = sorted(set(elements) - self.elements)
        if missing:
            raise RecordingError(f"GStreamer lacks {', '.join(map(_with_package, missing))}")


async def find_installation(needed: Iterable[str] = ()) -> Installation:
    """Return the installation, looked up once a process; raise RecordingError if something is missing."""
    wanted = frozenset(needed)
    found = await asyncio.to_thread(_find)
    if not wanted <= found.elements:
        # It may have been installed meanwhile; only a refusal costs this second lookup.
        found = await asyncio.to_thread(_find, refresh=True)
        found.require(wanted)
    return found


def known_installation() -> Installation | None:
    """Return the installation if it was looked up before, else None; never waits."""
    return _inspect() if _inspect.cache_info().currsize else None


def forget_installation() -> None:
    """Look up the installation anew next time; for a program that changes ``PATH`` or installs GStreamer."""
    _inspect.cache_clear()


def _with_package(element: str) -> str:
    package = _PACKAGE_OF.get(element)
    return f"{element} (Debian package {package})" if package else element


_find_lock = threading.Lock()


def _find(*, refresh: bool = False) -> Installation:
    with _find_lock:  # a hundred recorders starting together look it up once
        if refresh:
            forget_installation()
        return _inspect()


@functools.cache
def _inspect() -> Installation:
    launch, inspect = shutil.which("gst-launch-1.0"), shutil.which("gst-inspect-1.0")
    if launch is None or inspect is None:
        raise RecordingError("gst-launch-1.0 is not installed (Debian package gstreamer1.0-tools)")
    try:
        listed = subprocess.run([inspect], capture_output=True, check=True, timeout=_INSPECT_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise RecordingError(f"gst-inspect-1.0 does not work: {error}") from error
    elements: set[str] = set()
    for line in listed.stdout.decode(errors="replace").splitlines():
        # "coreelements:  fakesink: Fake Sink"; a translated total line has no second colon.
        plugin, _, rest = line.partition(":")
        name, colon, _ = rest.strip().partition(":")
        if colon and plugin:
            elements.add(name)
    return Installation(launch, frozenset(elements), _guard())


def _guard() -> tuple[str, ...]:
    """Return the prefix that makes a recorder finish its file when this process dies for any reason.

    The kernel sends the death signal again for each thread of a dying process that takes over its
    children, and gst-launch-1.0 heeds one interrupt but dies of a second. So a shell, which has one
    thread, stands between: it is killed, however often, and its own death interrupts the recorder
    once. It handles signals meant for the recorder before and after, never while that runs, and
    passes on the exit status.
    """
    setpriv, shell = shutil.which("setpriv"), shutil.which("sh")
    if setpriv is None or shell is None:
        return ()
    on_death = [setpriv, "--pdeathsig"]
    between = [shell, "-c", 'trap "exit \\$?" INT TERM HUP; "$@"; exit $?', "recorder"]
    guard = (*on_death, "KILL", "--", *between, *on_death, "INT", "--")
    try:
        subprocess.run([*guard, "true"], capture_output=True, check=True, timeout=_INSPECT_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return ()  # an older util-linux without --pdeathsig
    return guard
