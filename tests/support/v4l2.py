"""Devices that are none, with a ``v4l2-ctl`` and a ``systemctl`` that behave towards them as the real ones.

There is no ``/dev/video0`` on a computer that runs tests. A device here is a file whose content says how
it behaves; ``v4l2-ctl`` is a real program that is put in the real one's place.
"""

import io
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

_V4L2_CTL: Final = """#!{python} -IS
import fcntl, json, os, sys, time
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:] if "=" in word)
device = sys.argv[sys.argv.index("-d") + 1]
try:
    opened = open(device, "rb")
except OSError:
    sys.exit("Cannot open device " + device + ", exiting.")
ways = json.load(opened)
with open(ways["log"], "a") as log:
    log.write(json.dumps({{"argv": sys.argv[1:], "at": time.time(), "pid": os.getpid()}}) + "\\n")
try:
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("VIDIOC_REQBUFS returned -1 (Device or resource busy)", file=sys.stderr)
    sys.exit(255)
if ways["do"] == "hang":
    time.sleep(3600)
if ways["do"] == "deaf":
    import signal
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    time.sleep(3600)
while ways.get("gate") and not os.path.exists(ways["gate"]):
    time.sleep(0.005)
if ways["do"] == "fail":
    print("VIDIOC_STREAMON returned -1 (No space left on device)", file=sys.stderr)
    sys.exit(1)
form = dict(word.split("=") for word in words["set-fmt-video"].split(","))
if ways["do"] == "nothing":
    print("The pixelformat '" + form["pixelformat"] + "' is invalid")
    sys.exit(0)
frame = ways["frame"]
if ways.get("frames"):
    done = open(ways["log"]).read().count(json.dumps(device))
    frame = ways["frames"][min(done, len(ways["frames"])) - 1]
data = open(frame, "rb").read()
if ways["do"] == "short":
    data = data[:999]
if ways["do"] == "full":
    print(4096, "!=", len(data), file=sys.stderr)
    data = data[:4096]
with open(words["stream-to"], "wb") as file:
    file.write(data)
"""

_SYSTEMCTL: Final = """#!{python} -IS
import json, os, sys, time
action, name = sys.argv[1:]
here = {directory!r}
ways = {{}}
if os.path.exists(os.path.join(here, name + ".ways")):
    ways = json.load(open(os.path.join(here, name + ".ways")))
with open(os.path.join(here, "log"), "a") as log:
    log.write(json.dumps([action, name]) + "\\n")
while ways.get(action) == "hang" or ways.get("gate") and not os.path.exists(ways["gate"]):
    time.sleep(0.005)
if ways.get(action) == "fail":
    print("Failed to " + action + " " + name + ": Unit " + name + " not loaded.", file=sys.stderr)
    sys.exit(5)
with open(os.path.join(here, name + ".state"), "w") as state:
    state.write({{"stop": "down", "restart": "up"}}[action])
"""


def a_jpeg(width: int = 64, height: int = 48, seed: int = 1) -> bytes:
    """A picture of noise, which is never under 1000 bytes."""
    noise = random.Random(seed).randbytes(width * height * 3)
    data = io.BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(data, "JPEG")
    return data.getvalue()


class Devices:
    """Devices in a directory, and the programs to talk to them.

    Attributes:
        v4l2_ctl: Path of the program.
        systemctl: Path of the program.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "devices"
        self._directory.mkdir(exist_ok=True)
        self._services = directory / "services"
        self._services.mkdir(exist_ok=True)
        (directory / "bin").mkdir(exist_ok=True)
        self.v4l2_ctl = _script(directory / "bin" / "v4l2-ctl", _V4L2_CTL)
        self.systemctl = _script(directory / "bin" / "systemctl", _SYSTEMCTL, directory=str(self._services))

    def device(
        self,
        name: str,
        do: str = "picture",
        frame: bytes | None = None,
        frames: Sequence[bytes] = (),
        **ways: Any,
    ) -> Path:
        """A device that does as is said: picture, hang, deaf, fail, short, full or nothing.

        It gives ``frame``, or ``frames`` one after the other and then the last of them again and again.
        """
        path = self._directory / name
        content = self._directory / f"{name}.frame"
        content.write_bytes(a_jpeg() if frame is None else frame)
        series = [self._directory / f"{name}.frame{number}" for number in range(len(frames))]
        for one, data in zip(series, frames, strict=True):
            one.write_bytes(data)
        ways = {"do": do, "frame": str(content), "log": str(self._directory / "log"), **ways}
        ways["frames"] = [str(one) for one in series]
        path.write_text(json.dumps(ways))
        return path

    @property
    def captures(self) -> list[dict[str, Any]]:
        """Every call of ``v4l2-ctl`` so far: ``argv``, ``at`` and ``pid``."""
        log = self._directory / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def service(self, name: str, **ways: str) -> None:
        """How a service behaves: ``stop="fail"``, ``restart="hang"``, ``gate=PATH`` to wait for."""
        (self._services / f"{name}.ways").write_text(json.dumps(ways))

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Every call of ``systemctl`` so far: what, and of which service."""
        log = self._services / "log"
        if not log.exists():
            return []
        calls = map(json.loads, log.read_text().splitlines())
        return [(action, name) for action, name in calls]

    def state(self, name: str) -> str:
        """``up`` or ``down``, as the last call left it."""
        path = self._services / f"{name}.state"
        return path.read_text() if path.exists() else "up"


def _script(path: Path, text: str, **values: str) -> str:
    path.write_text(text.format(python=sys.executable, **values))
    path.chmod(0o755)
    return str(path)
