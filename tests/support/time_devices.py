"""MultiCam devices of known truth, as a process of their own on loopback.

Every device has a clock, stamps, a network (see `tests.support.time_peers`), a way of answering a start, and
a first frame that it decides itself and tells when a test asks (``PREPARE`` and ``TRUTH``, commands of the
test's own). Its recordings are real MP4 files, as long as it filmed. Nothing of it is asynccam's.

    python -m tests.support.time_devices < SPECS   (a line of JSON; prints a line of ports; ends with stdin)
"""

import asyncio
import json
import math
import random
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from tests.support.jpegs import noise
from tests.support.mp4 import box, full_box, words
from tests.support.time_peers import (
    HOST,
    NETWORKS,
    Origin,
    Peer,
    program_running,
    serve_until_closed,
)

FPS: Final = 30
_TICKS: Final = 90_000
_SIZE: Final = (16, 16)
_RESENT: Final = 0.2
"""Seconds that TCP takes longer where a packet is lost."""


@dataclass(frozen=True)
class Device:
    """What is true of one device.

    Attributes:
        answers: To a start: ``recording`` once it films, ``scheduled``, ``heard``, or ``early``: an early
            iPhone's ``recording`` at once, whatever its camera does.
        late: Seconds from the moment it is told, or from the command where that has passed, to its first
            frame.
        already: Seconds before the command since which it films for somebody else, or 0. It answers a start
            as ever.
        offset: Its system clock minus ours, in seconds.
        spread: The offset is drawn from so many seconds around that.
        drift: How much faster that clock runs, in seconds per second.
        step: Step of its stamps in seconds, or 0.
        rounding: ``floor`` or ``round``.
        corrected: The clock it starts by minus ours, in seconds.
        network: One of `time_peers.NETWORKS`.
        tells: Whether it tells its first frame by its system clock.
        lies: Seconds by which it tells that later than it was.
        lag: Seconds for which it still says that it does not film.
        packs: Seconds it takes to answer a stop.
    """

    answers: str = "scheduled"
    late: float = 0.0
    already: float = 0.0
    offset: float = 0.0
    spread: float = 0.01
    drift: float = 0.0
    step: float = 0.0
    rounding: str = "floor"
    corrected: float = 0.0
    network: str = "quiet"
    tells: bool = False
    lies: float = 0.0
    lag: float = 0.0
    packs: float = 0.0


# -- a film ------------------------------------------------------------------------------------------------


@cache
def _picture() -> bytes:
    return noise(size=_SIZE)


def film(frames: int) -> bytes:
    """An MP4 file of so many pictures at a constant rate, each of them the same JPEG (ISO/IEC 14496-12)."""
    kind = box(b"ftyp", b"isom", words(512), b"isomiso2mp41")
    media = box(b"mdat", _picture() * frames)
    return kind + media + _index(frames, len(kind) + 8)


def _index(frames: int, first: int) -> bytes:
    ticks = _TICKS // FPS
    length, unity = frames * ticks, words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    width, height = _SIZE
    looks = struct.pack(">HHIIIHB31sHh", width, height, 0x480000, 0x480000, 0, 1, 0, b"", 24, -1)
    entry = box(b"jpeg", bytes(6), struct.pack(">H", 1), bytes(16), looks)
    table = box(
        b"stbl",
        full_box(b"stsd", words(1), entry),
        full_box(b"stts", words(1, frames, ticks)),
        full_box(b"stsc", words(1, 1, frames, 1)),
        full_box(b"stsz", words(len(_picture()), frames)),
        full_box(b"stco", words(1, first)),
    )
    data = box(b"dinf", full_box(b"dref", words(1), full_box(b"url ", flags=1)))
    info = box(b"minf", full_box(b"vmhd", bytes(8), flags=1), data, table)
    handler = full_box(b"hdlr", words(0), b"vide", bytes(12), b"\0")
    header = full_box(b"mdhd", words(0, 0, _TICKS, length), struct.pack(">HH", 0x55C4, 0))
    track_header = full_box(
        b"tkhd", words(0, 0, 1, 0, length, 0, 0, 0, 0), unity, words(width << 16, height << 16), flags=3
    )
    track = box(b"trak", track_header, box(b"mdia", header, handler, info))
    movie = full_box(
        b"mvhd", words(0, 0, _TICKS, length, 0x10000), struct.pack(">H10x", 0x100), unity, bytes(24), words(2)
    )
    return box(b"moov", movie, track)


# -- the devices' process ------------------------------------------------------------------------------


class _Camera:
    """One device at work."""

    def __init__(self, number: int, device: Device, origin: Origin) -> None:
        self._name = f"truth-{number}"
        self._origin = origin
        self._prepare(device, number)

    def _prepare(self, device: Device, seed: int) -> None:
        """Begin anew, with an offset and a network of this run."""
        chance = random.Random(seed)
        self.device = device
        offset = device.offset + chance.uniform(-device.spread, device.spread)
        self._clock = Peer(offset=offset, drift=device.drift, step=device.step, rounding=device.rounding)
        self._delays = NETWORKS[device.network](random.Random(chance.randrange(2**32)))
        self.first: float | None = None
        self._free_at = -math.inf
        self._frames = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer command after command; each takes its time on the network."""
        try:
            while data := await reader.read(8192):
                command = json.loads(data)
                there, back = self._trip(command["command"])
                await asyncio.sleep(there)
                answer = await self._obey(command)
                await asyncio.sleep(back)
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _trip(self, command: str) -> tuple[float, float]:
        if command in ("PREPARE", "TRUTH"):
            return 0.0, 0.0
        delays, lost = next(self._delays), 0.0
        while delays is None:
            delays, lost = next(self._delays), lost + _RESENT
        return delays[0] + lost, delays[1]

    async def _obey(self, command: dict[str, Any]) -> bytes:
        match command["command"]:
            case "PREPARE":
                self._prepare(Device(**command["device"]), command["seed"])
                return b"{}"
            case "TRUTH":
                return json.dumps({"first": self.first}).encode()
            case "START_RECORDING":
                return await self._start(command["timestamp"])
            case "STOP_RECORDING":
                return await self._stop(command)
            case "GET_VIDEO":
                content = film(self._frames)
                head = self._answer("ready", fileName=command["fileName"], fileSize=len(content))
                return struct.pack(">I", len(head)) + head + content
            case "HEARTBEAT":
                return self._answer("command_received")
            case _:
                return self._status(command)

    async def _start(self, moment: float) -> bytes:
        device, now = self.device, time.monotonic()
        if device.already:
            self.first = max(now - device.already, self._free_at + 1e-3)
        else:
            ours = moment - device.corrected
            self.first = max(now, self._origin.at + ours - self._origin.wall) + device.late
        if device.answers == "recording":
            await asyncio.sleep(max(0.0, self.first - now) + 1e-3)  # a timer may be early by its resolution
        words = {"scheduled": "scheduled_recording_accepted", "heard": "command_received"}
        return self._answer(words.get(device.answers, "recording"))

    async def _stop(self, command: dict[str, Any]) -> bytes:
        now = time.monotonic()
        if self.first is None or now < self.first:
            return self._answer("error", fileName=None, fileSize=0)
        self._frames = math.floor((now - self.first) * FPS) + 1
        await asyncio.sleep(self.device.packs)
        told = self._told(command)
        return self._answer(
            "recording_stopped", fileName="film.mp4", fileSize=len(film(self._frames)), **told
        )

    def _status(self, command: dict[str, Any]) -> bytes:
        now = time.monotonic()
        if self.first is not None and now >= self.first + self.device.lag and not self._frames:
            return self._answer("recording", **self._told(command))
        if self.first is None:
            self._free_at = now
        return self._answer("ready")

    def _told(self, command: dict[str, Any]) -> dict[str, float]:
        if not (self.device.tells and command.get("firstFrame")):
            return {}
        assert self.first is not None
        return {"firstFrameAt": self._shows(self.first) + self.device.lies, "firstFrameBound": 1e-3}

    def _answer(self, status: str, **more: Any) -> bytes:
        head = {"deviceId": self._name, "status": status, "timestamp": self._stamp()}
        if self.device.answers == "early":
            head["isRecording"] = status == "recording"
        else:
            head["deviceType"] = "Android:Phone"
        return json.dumps({**head, **more}).encode()

    def _stamp(self) -> float:
        return self._clock.stamp(self._shows(time.monotonic()))

    def _shows(self, moment: float) -> float:
        """Its system clock at a moment of the monotonic clock."""
        elapsed = moment - self._origin.at
        return self._origin.wall + elapsed + self._clock.truth(elapsed)


async def _serve(devices: Sequence[Device], origin: Origin) -> None:
    cameras = [_Camera(number, device, origin) for number, device in enumerate(devices)]
    servers = [await asyncio.start_server(camera.talk, HOST, 0, backlog=256) for camera in cameras]
    await serve_until_closed([server.sockets[0].getsockname()[1] for server in servers])


def main() -> None:
    document = json.loads(sys.stdin.readline())
    asyncio.run(_serve([Device(**one) for one in document["devices"]], Origin(**document["origin"])))


@contextmanager
def devices_running(devices: Sequence[Device], origin: Origin) -> Iterator[list[int]]:
    """All devices in one other process; gives their ports."""
    document = {"devices": [asdict(one) for one in devices], "origin": asdict(origin)}
    with program_running("tests.support.time_devices", document) as ports:
        yield ports


async def ask(port: int, command: str, **fields: Any) -> dict[str, Any]:
    """A command of the test's own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(json.dumps({"command": command, **fields}).encode())
        await writer.drain()
        return dict(json.loads(await asyncio.wait_for(reader.read(65536), 10)))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


if __name__ == "__main__":
    main()
