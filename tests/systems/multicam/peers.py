"""MultiCam peers that share nothing with asynccam: plain sockets, bytes written by hand.

`Peer` is a server around any conversation; the functions below it are conversations, from one canned
answer to devices with the quirks that OAK, Android and iOS have.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A TCP server on an ephemeral port; every connection holds the same conversation.

    Attributes:
        opened: Connections accepted so far.
    """

    def __init__(self, conversation: Conversation, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._conversation = conversation
        self._where = (host, port)
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.opened = 0
        self.port = port

    async def __aenter__(self) -> "Peer":
        self._server = await asyncio.start_server(self._talk, *self._where, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    def vanish(self) -> None:
        """Refuse new connections; those that are open stay."""
        assert self._server is not None
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        self.opened += 1
        try:
            await self._conversation(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def says(*pieces: bytes, then: str = "wait") -> Conversation:
    """Reads once and sends the pieces, each by itself; then waits, closes or resets."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(65536):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.0005)  # so that the pieces are not sent as one
        if then == "wait":
            await reader.read()
        elif then == "reset":
            reset(writer)

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing."""
    await reader.read()


async def resets_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Is gone before a command can be sent."""
    reset(writer)


class DropsIdle:
    """Closes its first connections without a word and answers on later ones."""

    def __init__(self, drops: int, *, by_reset: bool = False) -> None:
        self._drops = drops
        self._by_reset = by_reset
        self.commands: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._drops > 0:
            self._drops -= 1
            if self._by_reset:
                reset(writer)
            return
        if data := await reader.read(4096):
            self.commands.append(data)
            writer.write(b'{"deviceId":"a","status":"scheduled_recording_accepted","timestamp":1.5}')
            await reader.read()


def framed(header: bytes, body: bytes) -> bytes:
    """A file as it goes over the wire."""
    return len(header).to_bytes(4, "big") + header + body


class Device:
    """What the three devices below have in common: they record, and count what they are told.

    Attributes:
        commands: Every command that was understood, in order.
        reads: Every read, as it came.
        files: Name to content.
        recording: Whether it records now.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.commands: list[dict[str, Any]] = []
        self.reads: list[bytes] = []
        self.files = dict(files or {})
        self.recording = False
        self._timers: list[asyncio.TimerHandle] = []

    def told(self, command: str) -> int:
        """How often a command came."""
        return sum(one["command"] == command for one in self.commands)

    def start_at(self, moment: float) -> None:
        """Begin to record then; nothing calls this off."""

        def begin() -> None:
            self.recording = True

        delay = moment - time.time()
        if delay > 0.01:
            self._timers.append(asyncio.get_running_loop().call_later(delay, begin))
        else:
            begin()

    def close(self) -> None:
        """Forget what was scheduled."""
        for timer in self._timers:
            timer.cancel()


class Oak(Device):
    """An OAK camera server: two reads make a message, files vanish once they were written.

    Attributes:
        broken: The camera does not open: a start is taken all the same.
        disconnected: The camera is not plugged in.
        unpacked: Recordings that are packed, and listed, only when they are fetched.
        packs: What each recording becomes.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__(files)
        self.broken = False
        self.disconnected = False
        self.unpacked: dict[str, bytes] = {}
        self.packs = b"PK" * 5000
        self._failed = False

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while first := await reader.read(4):
            prefixed = first[:1] != b"{"
            if prefixed:
                document = await reader.readexactly(int.from_bytes(first, "big"))
            else:
                document = first + await reader.read(8192)
            self.reads.append(document)
            try:
                command = json.loads(document)
            except ValueError:
                return
            if "command" not in command:
                continue
            self.commands.append(command)
            await self._reply(command, prefixed, writer)

    async def _reply(self, command: dict[str, Any], prefixed: bool, writer: asyncio.StreamWriter) -> None:
        body = None
        if command["command"] == "GET_VIDEO":
            name = command.get("fileName") or ""
            if name in self.unpacked:
                self.files[name] = self.unpacked.pop(name)
            body = self.files.get(name)
            if body is None:
                answer = self._answer("error", f'"message": "Failed to finalize video: {name}"')
            else:
                answer = self._answer("ready", f'"fileName": "{name}", "fileSize": {len(body)}')
        else:
            answer = self.obey(command)
        if body is not None:
            writer.write(framed(answer, body))
            await writer.drain()
            del self.files[command["fileName"]]
        else:
            writer.write(framed(answer, b"") if prefixed else answer)
            await writer.drain()

    def obey(self, command: dict[str, Any]) -> bytes:
        match command["command"]:
            case "START_RECORDING":
                return self._start(command["timestamp"])
            case "STOP_RECORDING":
                if not self.recording:
                    return self._answer("error", '"fileName": null, "fileSize": 0')
                self.recording = False
                name = f"video_{len(self.unpacked) + 1}.zip"
                self.unpacked[name] = self.packs
                return self._answer("recording_stopped", f'"fileName": "{name}", "fileSize": 0')
            case "LIST_FILES":
                entries = ", ".join(
                    f'{{"fileName": "{name}", "fileSize": {len(body)}, "creationDate": 1729000000.5,'
                    f' "modificationDate": 1729000001.5}}'
                    for name, body in self.files.items()
                )
                return self._answer("ready", f'"files": [{entries}]')
            case "HEARTBEAT":
                return self._answer("command_received")
            case "DEVICE_STATUS":
                if self.disconnected:
                    return self._answer("camera_disconnected")
                return self._answer("recording" if self.recording else "error" if self._failed else "ready")
            case other:
                return self._answer("error", f'"message": "Unknown command: {other}"')

    def _start(self, moment: float) -> bytes:
        if self.recording:
            return self._answer("recording")
        if self.disconnected:
            return self._answer("camera_disconnected")
        if moment >= time.time() + 0.01:
            self.start_at(moment)
            return self._answer("scheduled_recording_accepted")
        if self.broken:
            self._failed = True
        else:
            self.start_at(0)
        return self._answer("command_received")

    @staticmethod
    def _answer(status: str, more: str = "") -> bytes:
        more = f", {more}" if more else ""
        return f'{{"deviceId": "3f2c-oak", "status": "{status}", "timestamp": {time.time()}{more}}}'.encode()


class Android(Device):
    """An Android phone: one read of at most 4096 bytes is a command; errors say nothing."""

    synchronized = True

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            self.reads.append(data)
            try:
                command = json.loads(data)
            except ValueError:
                writer.write(self._status("error"))
                continue
            self.commands.append(command)
            writer.write(self.obey(command))
            await writer.drain()

    def obey(self, command: dict[str, Any]) -> bytes:
        match command["command"]:
            case "START_RECORDING":
                if self.recording:
                    return self._status("recording")
                if not self.synchronized:
                    return self._status("time_not_synchronized")
                self.start_at(command["timestamp"])
                return self._status("scheduled_recording_accepted")
            case "STOP_RECORDING" if self.recording:
                self.recording = False
                self.files["video_1729000000.mp4"] = b"moov" * 1000
                return (
                    b'{"deviceId":"Mountain-A1B2C3D4","status":"recording_stopped","timestamp":1729000030.456,'
                    b'"fileName":"video_1729000000.mp4","fileSize":4000}'
                )
            case "GET_VIDEO":
                body = self.files.get(command.get("fileName", ""))
                if body is None:
                    return self._status("file_not_found")
                name = command["fileName"].encode()
                header = (
                    b'{"deviceId":"Mountain-A1B2C3D4","fileName":"%b","fileSize":%d,"status":"ready"}'
                    % (name, len(body))
                )
                return framed(header, body)
            case "DEVICE_STATUS" | "HEARTBEAT":
                return self._status("recording" if self.recording else "ready")
            case _:
                return self._status("error")

    @staticmethod
    def _status(status: str) -> bytes:
        return (
            b'{"deviceId":"Mountain-A1B2C3D4","status":"%b","timestamp":%f,"batteryLevel":85.5,'
            b'"deviceType":"Android:Phone","uploadQueue":[],"failedUploadQueue":[]}'
            % (status.encode(), time.time())
        )


class Ios(Device):
    """An early iPhone: dialect 1, statuses as sentences, heartbeats of its own, silence to bad JSON."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(8192):
            self.reads.append(data)
            try:
                command = json.loads(data)
            except ValueError:
                continue
            self.commands.append(command)
            writer.write(b'{"command":"HEARTBEAT","timestamp":1729000000.25,"deviceId":"iPhone-7"}')
            await writer.drain()
            await asyncio.sleep(0.001)  # so that the answer does not come with the heartbeat
            writer.write(self.obey(command) + b"\r\n\0")
            await writer.drain()

    def obey(self, command: dict[str, Any]) -> bytes:
        match command["command"]:
            case "START_RECORDING":
                self.start_at(command["timestamp"])
                return self._status("Scheduled recording accepted" if not self.recording else "Recording")
            case "STOP_RECORDING":
                self.recording = False
                self.files["iPhone-7_1729000000123"] = b"mdat" * 2000
                return self._status(
                    "Recording stopped", b',"fileId":"iPhone-7_1729000000123","fileSize":8000'
                )
            case "GET_VIDEO":
                name = str(command["fileId"])
                if name not in self.files:
                    return self._status("File not found", b',"message":"no such file"')
                header = (
                    b'{"deviceId":"iPhone-7","fileId":"%b","fileName":"%b.mov","fileSize":%d,"status":"Ready"}'
                    % (name.encode(), name.encode(), len(self.files[name]))
                )
                return framed(header, self.files[name])
            case "LIST_FILES":
                entries = b",".join(
                    b'{"fileId":"%b","fileName":"%b.mov","fileSize":%d,"creationDate":1729000000,'
                    b'"modificationDate":1729000030}' % (name.encode(), name.encode(), len(body))
                    for name, body in self.files.items()
                )
                return self._status("Ready", b',"files":[' + entries + b"]")
            case "HEARTBEAT":
                return self._status("Command received")
            case _:
                return self._status("Recording" if self.recording else "Ready")

    def _status(self, status: str, more: bytes = b"") -> bytes:
        return b'{"deviceId":"iPhone-7","status":"%b","timestamp":%f,"isRecording":%b%b}' % (
            status.encode(),
            time.time(),
            b"true" if self.recording else b"false",
            more,
        )
