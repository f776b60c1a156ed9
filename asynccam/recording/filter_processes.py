"""Filter processes between a source and GStreamer: one for Motion JPEG, one for RTP."""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError
from asynccam.recording import jpeg_filter
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess, OutputCallback
from asynccam.recording.rtp import filter as rtp_filter
from asynccam.recording.rtp.port import RtpPort
from asynccam.recording.sources import FROM_FILTER, TO_FILTER, RtpInput
from asynccam.runtime.tasks import finish

_END_SECONDS: Final = 1.0  # for a filter to end once its input is closed
_SPOILED_LINE: Final = b"spoiled "


class JpegFilterProcess:
    """A running `asynccam.recording.jpeg_filter`; ``spoiled`` counts the pictures it has left out so far.

    It belongs to the process that holds the other ends of its pipes, and ends with that process. So it needs
    no guard, and outlives Python as long as a recording does.
    """

    def __init__(self) -> None:
        self.spoiled = 0
        self._line = b""
        self._process: LaunchProcess | None = None

    async def start(self, source: int, target: int) -> None:
        """Start it between two descriptors, which the caller closes."""
        # -I and -S: it needs no package, and starts in a fraction of the time.
        program = [sys.executable, "-I", "-S", str(Path(jpeg_filter.__file__)), str(source), str(target)]
        self._process = await LaunchProcess.start(
            program, self._take, pass_fds=(source, target), guarded=False
        )

    async def stop(self) -> None:
        """Wait for its end, once the process at its other pipe ends has ended; idempotent."""
        if self._process is not None:
            await asyncio.wait({self._process.exited}, timeout=_END_SECONDS)
            await self._process.stop(NOTHING_TO_FINISH)

    def _take(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.startswith(_SPOILED_LINE):
                self.spoiled = int(line.removeprefix(_SPOILED_LINE))


class JpegFilterPipes:
    """Pipes to and from a filter: a context manager that closes this process's ends."""

    def __init__(self) -> None:
        try:
            self.filter_source, into = os.pipe()
        except OSError as error:
            raise RecordingError(f"cannot create a pipe for pictures: {error}") from error
        try:
            outof, self.filter_target = os.pipe()
        except OSError as error:
            os.close(self.filter_source)
            os.close(into)
            raise RecordingError(f"cannot create a pipe for pictures: {error}") from error
        self.inherited = (into, outof)  # the ends for the process that records, inherited under their numbers

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Return arguments of ``gst-launch-1.0`` with the descriptors in their places."""
        into, outof = self.inherited
        places = {f"fd={TO_FILTER}": f"fd={into}", f"fd={FROM_FILTER}": f"fd={outof}"}
        return [places.get(word, word) for word in arguments]

    def __enter__(self) -> "JpegFilterPipes":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (*self.inherited, self.filter_source, self.filter_target):
            os.close(descriptor)


class RtpFilterProcess:
    """A running `asynccam.recording.rtp.filter`; it ends when the process that it feeds has ended."""

    def __init__(self, on_output: OutputCallback) -> None:
        self._on_output = on_output
        self._process: LaunchProcess | None = None
        self._port: RtpPort | None = None  # if it is not another's
        self._packets_out: socket.socket | None = None

    async def start(self, source: RtpInput) -> int:
        """Bind the port unless it is bound, and start; the caller must `stop` it, also when this raises.

        Returns the descriptor that packets are read from, to be inherited before `close_inherited` is called.

        Raises:
            RecordingError: The port is taken, or Python cannot be started.
            UsageError: Its address is invalid.
        """
        port = source.held
        if port is None:
            port = await finish(self._bind(source))
        try:
            # Every packet is read as it was written, and the end of the writer is seen.
            out, self._packets_out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise RecordingError(f"cannot create a socket pair for packets: {error}") from error
        with out:
            given = (*port.descriptors[:2], out.fileno(), port.descriptors[2])
            program = [sys.executable, "-I", "-S", str(Path(rtp_filter.__file__))]
            self._process = await LaunchProcess.start(
                [*program, *map(str, given), str(source.payload), source.sender or "-", source.codec],
                self._on_output,
                feed=iter(()),
                armed=True,
                pass_fds=[fd for fd in given if fd >= 0],
                guarded=False,
            )
        return self._packets_out.fileno()

    def play(self) -> None:
        """Hand on packets, which wait until the process that reads them has its clock."""
        if self._process is not None:
            self._process.release()

    async def _bind(self, source: RtpInput) -> RtpPort:
        # In a thread: a name of this computer may have to be looked up.
        self._port = await asyncio.to_thread(RtpPort, source.port, source.address, reports=source.reports)
        return self._port

    def close_inherited(self) -> None:
        """Close what the process that reads has inherited."""
        if self._packets_out is not None:
            self._packets_out.close()
        if self._port is not None:
            self._port.close()

    async def stop(self) -> None:
        """Wait for its end, once the process that reads has ended; idempotent."""
        self.close_inherited()
        if self._process is not None:
            await asyncio.wait({self._process.exited}, timeout=_END_SECONDS)
            await self._process.stop(NOTHING_TO_FINISH)
