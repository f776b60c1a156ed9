"""A MultiCam device to talk to by hand: bytes over bare sockets, and a recorder that writes plain bytes."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from asynccam.recording.verify import FileVerdict, Verdict
from asynccam.systems.multicam.device.connection import DeviceLimits
from asynccam.systems.multicam.device.device import MultiCamDevice

ROOMY = DeviceLimits(reserve=0)
Answer = dict[str, Any]
CUT = b"\0\0\0\x10ftypisom\0\0\2\0" + b"\0\0\1\0mdat" + b"frame"
"""An MP4 that ends before its media does, and has no index."""


class BytesRecorder:
    """A recorder hook without a camera.

    Attributes:
        footage: What a recording holds once it is stopped.
        verdict: What it is said to be worth.
        start_failure: Raised by a start.
        stop_failure: Raised by a stop.
        may_start: Cleared, a start waits for it.
        may_stop: Cleared, a stop waits for it.
        started: Paths in the order of their starts.
        started_at: Loop times of the starts.
        stops: How many stops came.
    """

    def __init__(self, footage: bytes = b"moving pictures") -> None:
        self.footage = footage
        self.verdict = Verdict.COMPLETE
        self.start_failure: Exception | None = None
        self.stop_failure: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.started: list[Path] = []
        self.started_at: list[float] = []
        self.stops = 0
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self, path: Path) -> float:
        await asyncio.to_thread(path.touch)
        await self.may_start.wait()
        if self.start_failure is not None:
            raise self.start_failure
        self._end = asyncio.get_running_loop().create_future()
        self.started.append(path)
        self.started_at.append(time.time())
        return time.time()

    async def stop(self) -> FileVerdict:
        self.stops += 1
        await self.may_stop.wait()
        if self.stop_failure is not None:
            raise self.stop_failure
        path = self.started[-1]
        await asyncio.to_thread(path.write_bytes, self.footage)
        return FileVerdict(path, self.verdict, 10, 0.4, len(self.footage), "")

    async def ended(self) -> str:
        return await asyncio.shield(self._end)

    def die(self, reason: str) -> None:
        """End the recording without having been asked to."""
        self._end.set_result(reason)


@asynccontextmanager
async def running(
    directory: Path, recorder: BytesRecorder | None = None, **options: Any
) -> AsyncIterator[MultiCamDevice]:
    options = {"port": 0, "device_id": "bench-1", "limits": ROOMY, **options}
    async with MultiCamDevice(directory, recorder=recorder or BytesRecorder(), **options) as device:
        yield device


class Controller:
    """One connection to a device; commands leave as the bytes they are given as."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def document(self) -> Answer:
        """The next bare JSON object."""
        text = b""
        while True:
            byte = await asyncio.wait_for(self.reader.readexactly(1), 20)
            text += byte
            if byte == b"}":
                try:
                    return dict(json.loads(text))
                except ValueError:
                    continue

    async def framed(self) -> Answer:
        """The next JSON object behind its length."""
        (length,) = struct.unpack(">I", await asyncio.wait_for(self.reader.readexactly(4), 20))
        assert length < 1 << 20
        return dict(json.loads(await asyncio.wait_for(self.reader.readexactly(length), 20)))

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 20)

    async def rest(self) -> bytes:
        """Everything until the device closes."""
        return await asyncio.wait_for(self.reader.read(), 20)

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(device: MultiCamDevice) -> AsyncIterator[Controller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", device.port)
    controller = Controller(reader, writer)
    try:
        yield controller
    finally:
        await controller.close()


def command(name: str, **fields: Any) -> bytes:
    """A command as the vendors' controllers write it: JSON with nothing around it."""
    return json.dumps(
        {"command": name, "timestamp": time.time(), "deviceId": "controller", **fields}
    ).encode()


async def ask(device: MultiCamDevice, name: str, **fields: Any) -> Answer:
    """One connection, one command, one answer."""
    async with connected(device) as controller:
        controller.send(command(name, **fields))
        return await controller.document()


async def fetch(device: MultiCamDevice, **fields: Any) -> tuple[Answer, bytes]:
    """A recording as a controller gets it: its header and its bytes."""
    async with connected(device) as controller:
        controller.send(command("GET_VIDEO", **fields))
        header = await controller.framed()
        return header, await controller.exactly(header["fileSize"])
