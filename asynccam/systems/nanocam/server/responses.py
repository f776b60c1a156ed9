"""How a media server answers: the original's clients by bare words, ours in frames.

See docs/protocols/nanocam.md, "Answers" and "Frames".
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from asynccam.errors import AsynccamError, ConnectionError
from asynccam.net.transfer.sendfile import send_file
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.wire_answers import (
    BUSY,
    MORE,
    OK,
    QUIT,
    Busy,
    FileEntry,
    FileList,
    Finished,
    FramedAnswer,
    Ok,
    RefusalKind,
    Refused,
    encode_framed,
    encode_names,
)


class Line:
    """The sending side of a connection: one answer at a time, and no answer waits for ever.

    Args:
        sock: Connected and non-blocking.
        peer: Names the client in errors.
        stall_timeout: Seconds the client may take nothing.

    Attributes:
        delivering: Whether files are being sent, between which nothing else can be said.
    """

    def __init__(self, sock: socket.socket, peer: str, stall_timeout: float) -> None:
        self.delivering = False
        self._sock = sock
        self._peer = peer
        self._stall_timeout = stall_timeout
        self._turn = asyncio.Lock()

    async def say(self, data: bytes) -> None:
        """Send one answer.

        Raises:
            ConnectionError: The client went away.
            TimeoutError: It does not read.
        """
        async with self._turn:
            await self._write(data)

    async def deliver(self, paths: Sequence[Path], *, ours: bool) -> None:
        """Send files, with what the client needs to tell them apart.

        Raises:
            ConnectionError, TimeoutError: As for `say`.
            StorageError: A file cannot be read.
        """
        self.delivering = True
        try:
            async with self._turn:
                await self._deliver(paths, ours=ours)
        finally:
            self.delivering = False

    async def _deliver(self, paths: Sequence[Path], *, ours: bool) -> None:
        files = await on_disk(_open_all, paths)
        try:
            sizes = [size for _, size in files]
            names = [path.name for path in paths]
            if ours:
                listed = FileList(tuple(map(FileEntry, names, sizes)))
                await self._write(encode_framed(listed))
            else:
                await self._write(encode_names(names))
            for number, (file, size) in enumerate(files):
                if number and not ours:
                    await self._write(MORE)
                await send_file(
                    self._sock, file.fileno(), 0, size, stall_timeout=self._stall_timeout, peer=self._peer
                )
            await self._write(encode_framed(Finished()) if ours else QUIT)
        finally:
            for file, _ in files:
                file.close()

    async def _write(self, data: bytes) -> None:
        async with deadline(self._stall_timeout, f"room for an answer to {self._peer}"):
            try:
                await asyncio.get_running_loop().sock_sendall(self._sock, data)
            except OSError as error:
                raise ConnectionError(f"{self._peer} went away: {error.strerror or error}") from error


class Answers:
    """Answers to one request, in the words of whoever sent it.

    Args:
        line: Where they go.
        ours: Whether asynccam's own client asked.

    Attributes:
        ours: As given.
    """

    def __init__(self, line: Line, *, ours: bool) -> None:
        self.ours = ours
        self._line = line

    async def busy(self) -> None:
        """A stream has the camera."""
        await self._say(BUSY, Busy())

    async def ok(self, ssrc: int | None = None) -> None:
        """The stream begins, with this SSRC if it was asked for, or what was asked is done."""
        await self._say(OK, Ok(ssrc))

    async def refuse(self, kind: RefusalKind, error: AsynccamError) -> None:
        """Say no, and why; an original client has no word for it.

        Raises:
            AsynccamError: The error itself, to an original client: it is to be parted with.
        """
        if not self.ours:
            raise error
        await self._line.say(encode_framed(Refused(kind, str(error))))

    async def deliver(self, paths: Sequence[Path]) -> None:
        """Send the files that were captured."""
        await self._line.deliver(paths, ours=self.ours)

    async def _say(self, word: bytes, answer: FramedAnswer) -> None:
        await self._line.say(encode_framed(answer) if self.ours else word)


def _open_all(paths: Sequence[Path]) -> list[tuple[BinaryIO, int]]:
    """Files with their sizes."""
    with ExitStack() as stack:
        files: list[tuple[BinaryIO, int]] = []
        for path in paths:
            with storage_errors("read", path):
                file = stack.enter_context(path.open("rb"))
                files.append((file, os.fstat(file.fileno()).st_size))
        stack.pop_all()
        return files
