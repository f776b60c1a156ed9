"""Filter processes between a source and GStreamer: one for Motion JPEG, one for RTP."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording import jpeg_filter
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess, OutputCallback
from asynccam.recording.rtp import filter as rtp_filter
from asynccam.recording.rtp.port import RtpPort, normalize_address
from asynccam.recording.sources import FROM_FILTER, FROM_PORT, TO_FILTER, RtpSource
from asynccam.runtime.tasks import finish

_END_SECONDS: Final = 1.0  # for a filter to end once its input is closed
_SPOILED_LINE: Final = b"spoiled "


class _FilterProcess:
    """A running filter; it ends when the process that holds the other ends of its pipes has ended.

    So it needs no guard, and outlives Python as long as a recording does.
    """

    def __init__(self) -> None:
        self.spoiled = 0  # pictures that it has left out so far
        self._process: LaunchProcess | None = None
        self._passed = ExitStack()  # closes what the processes inherit

    async def _launch(
        self,
        program: ModuleType,
        arguments: list[str],
        on_output: OutputCallback,
        pass_fds: list[int],
        feed: Iterator[bytes] | None = None,
    ) -> None:
        # -I and -S: it needs no package, and starts in a fraction of the time.
        command = [sys.executable, "-I", "-S", str(Path(str(program.__file__))), *arguments]
        self._process = await LaunchProcess.start(
            command, on_output, feed=feed, armed=feed is not None, pass_fds=pass_fds
        )

    def close_inherited(self) -> None:
        """Close what the process that it feeds has inherited; idempotent."""
        self._passed.close()

    async def stop(self) -> None:
        """Wait for its end, once the process that it feeds has ended; idempotent."""
        self.close_inherited()
        if self._process is not None:
            await asyncio.wait({self._process.exited}, timeout=_END_SECONDS)
            await self._process.stop(NOTHING_TO_FINISH)


class JpegFilterProcess(_FilterProcess):
    """A running `asynccam.recording.jpeg_filter`."""

    _line = b""

    async def start(self) -> Mapping[str, int]:
        """Start it; the caller must `stop` it, also when this raises.

        Returns descriptors by their placeholders, to be inherited before `close_inherited` is called.
        """
        source, into = self._open_pipe()
        outof, target = self._open_pipe()
        await self._launch(jpeg_filter, [str(source), str(target)], self._take, [source, target])
        return {TO_FILTER: into, FROM_FILTER: outof}

    def _open_pipe(self) -> tuple[int, int]:
        try:
            ends = os.pipe()
        except OSError as error:
            raise RecordingError(f"cannot create a pipe for pictures: {error}") from error
        for descriptor in ends:
            self._passed.callback(os.close, descriptor)
        return ends

    def _take(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.startswith(_SPOILED_LINE):
                self.spoiled = int(line.removeprefix(_SPOILED_LINE))


class RtpFilterProcess(_FilterProcess):
    """A running `asynccam.recording.rtp.filter`."""

    def __init__(self, source: RtpSource, on_output: OutputCallback) -> None:
        super().__init__()
        self._source = source
        self._on_output = on_output

    async def start(self) -> Mapping[str, int]:
        """Bind the port unless it is bound, and start; the caller must `stop` it, also when this raises.

        Returns descriptors by their placeholders, to be inherited before `close_inherited` is called.

        Raises:
            RecordingError: The port is taken, or Python cannot be started.
            UsageError: Its address is invalid.
        """
        source = self._source
        # To its end even when cancelled, so that the port is closed.
        port = source.held if source.held is not None else await finish(self._bind())
        try:
            # Every packet is read as it was written, and the end of the writer is seen.
            out, packets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise RecordingError(f"cannot create a socket pair for packets: {error}") from error
        self._passed.callback(packets.close)
        with out:
            given = (*port.descriptors[:2], out.fileno(), port.descriptors[2])
            sender = "-" if source.sender is None else normalize_address(source.sender)
            await self._launch(
                rtp_filter,
                [*map(str, given), str(source.payload), sender, source.codec],
                self._on_output,
                [fd for fd in given if fd >= 0],
                feed=iter(()),  # its end is the sign to `play`
            )
        return {FROM_PORT: packets.fileno()}

    def play(self) -> None:
        """Hand on packets, which wait until the process that reads them has its clock."""
        if self._process is not None:
            self._process.release()

    async def _bind(self) -> RtpPort:
        source = self._source
        # In a thread: a name of this computer may have to be looked up.
        port = await asyncio.to_thread(RtpPort, source.port, source.address, reports=source.rtcp_port)
        self._passed.callback(port.close)
        return port
