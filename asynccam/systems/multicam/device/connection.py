"""One controller's connection to a MultiCam device. See docs/protocols/multicam.md, Transport and GET_VIDEO.

Every step has a deadline, so a peer that sends nothing, reads nothing or sends garbage costs one socket
for a while.
"""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from asynccam.errors import AsynccamError, ConnectionError, RemoteProtocolError, StorageError
from asynccam.net.framing import encode_frame
from asynccam.net.transfer.sendfile import is_open_and_quiet, send_file, unacknowledged
from asynccam.redaction import loggable_json
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.device.commands import DeviceCommands, DeviceFaults, ResponseBuilder
from asynccam.systems.multicam.device.storage import OpenFile, Storage, StoredRecording
from asynccam.systems.multicam.models import ProtocolMessage
from asynccam.systems.multicam.protocol import CommandReader, ReceivedCommand

_LOG = logging.getLogger(__name__)
_READ: Final = 16 * 1024
"""Bytes of commands that are read and parsed in one turn of the loop."""
_WRITE: Final = 256 * 1024
_LINGER: Final = 1.0
"""Seconds for the peer to read an error reply before the connection is closed."""


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """Limits of a `MultiCamDevice`; times in seconds.

    Attributes:
        connections: Open connections; beyond that the one idle the longest is closed.
        idle_timeout: Between commands; long enough for a connection opened ahead of a start.
        command_timeout: From a command's first byte to its last.
        answer_timeout: For a peer to read 256 KiB of a reply.
        stall_timeout: Without progress of a download.
        start_timeout: From a start to its first frame.
        stop_timeout: For the recorder to finish its file; controllers wait 60 s.
        shutdown_timeout: For the recording to be finished when the device is closed.
        reserve: Bytes of disk to keep free: with less no recording starts, with half of it one is ended.
    """

    connections: int = 512
    idle_timeout: float = 300.0
    command_timeout: float = 10.0
    answer_timeout: float = 60.0
    stall_timeout: float = 600.0
    start_timeout: float = 20.0
    stop_timeout: float = 55.0
    shutdown_timeout: float = 30.0
    reserve: int = 256 * 1024 * 1024


@dataclass(eq=False)
class DeviceConnection:
    """Reads commands one after another, and replies to each in the form in which it was sent.

    The socket is connected and non-blocking; the caller closes it afterwards. ``idle_since`` is the loop time
    of the last reply, None while a command is executed.
    """

    sock: socket.socket
    peer: str
    commands: DeviceCommands
    responses: ResponseBuilder
    storage: Storage
    limits: DeviceLimits
    faults: DeviceFaults
    delete_after_download: bool

    def __post_init__(self) -> None:
        self._delivered: StoredRecording | None = None
        self._loop = asyncio.get_running_loop()
        self.idle_since: float | None = self._loop.time()

    async def run(self) -> None:
        """Serve until the peer closes, breaks the protocol or a deadline passes; these are not raised."""
        reader = CommandReader(peer=self.peer)
        try:
            await self._serve(reader)
        except RemoteProtocolError as error:
            _LOG.debug("%s: %s", self.peer, error)
            await self._reject(str(error), prefixed=reader.prefixed)
        except (AsynccamError, OSError) as error:
            _LOG.debug("%s: %s", self.peer, error)

    async def _serve(self, reader: CommandReader) -> None:
        command_began: float | None = None
        while data := await self._receive(command_began):
            self._delivered = None
            events = reader.feed(data)
            if events:
                command_began = None
            elif command_began is None:
                command_began = self._loop.time()
            for event in events:
                self.idle_since = None
                await self._execute(event)
            self.idle_since = self._loop.time()
            reader.feed(b"")  # Raises the error that followed the commands, if there is one.
        if self._delivered is not None and not unacknowledged(self.sock):
            await self.storage.delete(self._delivered.name)

    async def _receive(self, command_began: float | None) -> bytes:
        until = self.limits.idle_timeout
        if command_began is not None:
            until = max(command_began + self.limits.command_timeout - self._loop.time(), 0)
        async with deadline(until, f"whole command from {self.peer}"):
            return await self._read()

    async def _execute(self, event: ReceivedCommand) -> None:
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: command %s", self.peer, loggable_json(event.message.to_bytes()))
        if event.message.command in self.faults.silent:
            return
        reply = await self.commands.handle(event.message)
        if isinstance(reply, ProtocolMessage):
            await self._reply(reply, prefixed=event.prefixed)
        else:
            await self._send_recording(reply, prefixed=event.prefixed)

    async def _reply(self, reply: ProtocolMessage, *, prefixed: bool) -> None:
        document = reply.to_bytes()
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: response %s", self.peer, loggable_json(document))
        if self.faults.unasked_heartbeat and not prefixed:
            await self._write(self.responses.heartbeat().to_bytes())
        await self._write(encode_frame(document) if prefixed else document)

    async def _send_recording(self, recording: StoredRecording, *, prefixed: bool) -> None:
        async with AsyncExitStack() as stack:
            try:
                file = await stack.enter_async_context(self.storage.reading(recording))
            except StorageError as error:
                await self._reply(self.commands.refusal(str(error)), prefixed=prefixed)
                return
            await self._write(encode_frame(self.responses.header(recording, file.size).to_bytes()))
            await self._send_body(recording, file)

    async def _send_body(self, recording: StoredRecording, file: OpenFile) -> None:
        die_after = self.faults.die_after
        if die_after is not None:
            await self._send_bytes(file, 0, min(die_after, file.size))
            raise ConnectionError(f"aborted the download by {self.peer}: the fault die_after is set")
        last = max(file.size - 1, 0)
        await self._send_bytes(file, 0, last)
        # A peer that closes its side before it can have received all of the file proves nothing by that.
        waiting = is_open_and_quiet(self.sock)
        await self._send_bytes(file, last, file.size)
        if self.faults.delete_on_write:
            await self.storage.delete(recording.name)
        elif self.delete_after_download and waiting:
            self._delivered = recording

    async def _send_bytes(self, file: OpenFile, offset: int, end: int) -> None:
        await send_file(
            self.sock, file.fd, offset, end, stall_timeout=self.limits.stall_timeout, peer=self.peer
        )

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        step = self.faults.cut_answers or _WRITE
        for start in range(0, len(data), step):
            async with deadline(self.limits.answer_timeout, f"room for an answer to {self.peer}"):
                await self._loop.sock_sendall(self.sock, view[start : start + step])
            await asyncio.sleep(0.001 if self.faults.cut_answers else 0)

    async def _reject(self, message: str, *, prefixed: bool) -> None:
        """Send an error reply, and give the peer the time to read it."""
        try:
            await self._reply(self.commands.refusal(message), prefixed=prefixed)
            self.sock.shutdown(socket.SHUT_WR)
            # RFC 1122 4.2.2.13: closing with unread bytes resets the connection, which would drop the reply.
            async with deadline(_LINGER, f"end of {self.peer}"):
                while await self._read():
                    pass
        except (AsynccamError, OSError) as error:
            _LOG.debug("%s: %s", self.peer, error)

    async def _read(self) -> bytes:
        data = await self._loop.sock_recv(self.sock, _READ)
        await asyncio.sleep(0)  # sock_recv does not yield while data is there.
        return data
