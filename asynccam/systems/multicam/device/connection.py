"""One controller's connection to a MultiCam device. See docs/protocols/multicam.md, Transport and GET_VIDEO.

Everything is bounded by a deadline, so a peer that sends nothing, reads nothing or writes nonsense
costs one socket for a while and nothing else.
"""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from asynccam.errors import AsynccamError, ConnectionError, RemoteProtocolError, StorageError
from asynccam.net.transfer.sendfile import is_open_and_quiet, send_file, unacknowledged
from asynccam.redaction import loggable_json
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.device.commands import DeviceCommands
from asynccam.systems.multicam.device.faults import DeviceFaults
from asynccam.systems.multicam.device.responses import Answers
from asynccam.systems.multicam.device.storage import OpenFile, Storage, StoredFile
from asynccam.systems.multicam.models import Message
from asynccam.systems.multicam.protocol import Command, CommandReader

_LOG = logging.getLogger(__name__)
_READ: Final = 16 * 1024
"""Bytes of commands that are read, and understood, in one turn of the loop."""
_WRITE: Final = 256 * 1024
_LINGER: Final = 1.0
"""Seconds an error answer has to arrive before the connection is closed under it."""


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What a `MultiCamDevice` puts up with. Times are seconds.

    Attributes:
        connections: At once; beyond that the one idle for longest makes room.
        idle_timeout: Between commands; long enough for a connection opened ahead of a start.
        command_timeout: From a command's first byte to its last.
        answer_timeout: For a peer to take 256 KiB of an answer.
        stall_timeout: A download may stand still.
        start_timeout: From a start to its first frame.
        stop_timeout: For the recorder to finish its file; controllers wait 60 s.
        shutdown_timeout: For the recording to be finished when the device is closed.
        reserve: Bytes of disk that stay free: with less no recording starts, with half of it one ends.
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


class DeviceConnection:
    """Reads commands, one after another, and answers each in the form it came in.

    Args:
        sock: Connected and non-blocking; whoever runs this closes it afterwards.
        peer: Names the controller in logs.
        commands: Carries them out.
        answers: Writes file headers.
        storage: Where the recordings are.
        limits: Deadlines.
        faults: Trouble on purpose.
        delete_after_download: Delete a recording once the peer has taken all of it and closed.

    Attributes:
        idle_since: Loop time of the last answer; None while a command is carried out.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        commands: DeviceCommands,
        answers: Answers,
        storage: Storage,
        *,
        limits: DeviceLimits,
        faults: DeviceFaults,
        delete_after_download: bool,
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._commands = commands
        self._answers = answers
        self._storage = storage
        self._limits = limits
        self._faults = faults
        self._delete_after_download = delete_after_download
        self._delivered: StoredFile | None = None
        self._loop = asyncio.get_running_loop()
        self.idle_since: float | None = self._loop.time()

    async def run(self) -> None:
        """Serve until the peer closes, breaks the protocol or a deadline passes; raises nothing of that."""
        reader = CommandReader(peer=self._peer)
        try:
            await self._serve(reader)
        except RemoteProtocolError as error:
            _LOG.debug("%s: %s", self._peer, error)
            await self._part(str(error), prefixed=reader.prefixed)
        except (AsynccamError, OSError) as error:
            _LOG.debug("%s: %s", self._peer, error)

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
                await self._carry_out(event)
            self.idle_since = self._loop.time()
            reader.feed(b"")  # Raises the fault that stood behind the commands, if there is one.
        if self._delivered is not None and not unacknowledged(self._sock):
            await self._storage.delete(self._delivered.name)

    async def _receive(self, command_began: float | None) -> bytes:
        until = self._limits.idle_timeout
        if command_began is not None:
            until = max(command_began + self._limits.command_timeout - self._loop.time(), 0)
        async with deadline(until, f"whole command from {self._peer}"):
            return await self._read()

    async def _carry_out(self, event: Command) -> None:
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: command %s", self._peer, loggable_json(event.message.to_bytes()))
        if event.message.command in self._faults.silent:
            return
        reply = await self._commands.handle(event.message)
        if isinstance(reply, Message):
            await self._answer(reply, prefixed=event.prefixed)
        else:
            await self._send_recording(reply, prefixed=event.prefixed)

    async def _answer(self, answer: Message, *, prefixed: bool) -> None:
        document = answer.to_bytes()
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: response %s", self._peer, loggable_json(document))
        if self._faults.unasked_heartbeat and not prefixed:
            await self._write(self._answers.heartbeat().to_bytes())
        await self._write(_framed(document) if prefixed else document)

    async def _send_recording(self, recording: StoredFile, *, prefixed: bool) -> None:
        async with AsyncExitStack() as stack:
            try:
                file = await stack.enter_async_context(self._storage.reading(recording))
            except StorageError as error:
                await self._answer(self._commands.refusal(str(error)), prefixed=prefixed)
                return
            await self._write(_framed(self._answers.header(recording, file.size).to_bytes()))
            await self._send_body(recording, file)

    async def _send_body(self, recording: StoredFile, file: OpenFile) -> None:
        die_after = self._faults.die_after
        if die_after is not None:
            await self._send_bytes(file, 0, min(die_after, file.size))
            raise ConnectionError(f"broke off the download by {self._peer} as it was told to")
        last = max(file.size - 1, 0)
        await self._send_bytes(file, 0, last)
        # A peer that closes its side before it can have everything proves nothing by closing it.
        waiting = is_open_and_quiet(self._sock)
        await self._send_bytes(file, last, file.size)
        if self._faults.delete_on_write:
            await self._storage.delete(recording.name)
        elif self._delete_after_download and waiting:
            self._delivered = recording

    async def _send_bytes(self, file: OpenFile, offset: int, end: int) -> None:
        await send_file(
            self._sock, file.fd, offset, end, stall_timeout=self._limits.stall_timeout, peer=self._peer
        )

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        step = self._faults.cut_answers or _WRITE
        for start in range(0, len(data), step):
            async with deadline(self._limits.answer_timeout, f"room for an answer to {self._peer}"):
                await self._loop.sock_sendall(self._sock, view[start : start + step])
            await asyncio.sleep(0.001 if self._faults.cut_answers else 0)

    async def _part(self, message: str, *, prefixed: bool) -> None:
        """Say what was wrong, and give the peer the time to read it."""
        try:
            await self._answer(self._commands.refusal(message), prefixed=prefixed)
            self._sock.shutdown(socket.SHUT_WR)
            # Closing with bytes unread resets the connection, and the answer would be lost with it.
            async with deadline(_LINGER, f"end of {self._peer}"):
                while await self._read():
                    pass
        except (AsynccamError, OSError) as error:
            _LOG.debug("%s: %s", self._peer, error)

    async def _read(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, _READ)
        await asyncio.sleep(0)  # sock_recv does not yield while data is there.
        return data


def _framed(document: bytes) -> bytes:
    return len(document).to_bytes(4, "big") + document
