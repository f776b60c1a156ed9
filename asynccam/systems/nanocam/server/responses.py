"""Responses of a media server: bare words for the original's clients, frames for asynccam's.

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
from asynccam.systems.nanocam.protocol import (
    BUSY,
    MORE,
    OK,
    QUIT,
    Busy,
    FileEntry,
    FileListing,
    Finished,
    FramedResponse,
    Ok,
    RefusalKind,
    Refused,
    encode_framed,
    encode_names,
)


class ResponseWriter:
    """Sending side of a connection: one response at a time, each with a stall timeout in seconds."""

    def __init__(self, sock: socket.socket, peer: str, stall_timeout: float) -> None:
        self.delivering = False  # whether files are being sent; no other response may come between them
        self._sock = sock
        self._peer = peer
        self._stall_timeout = stall_timeout
        self._turn = asyncio.Lock()

    async def send(self, data: bytes) -> None:
        """Send one response."""
        async with self._turn:
            await self._write(data)

    async def send_files(self, paths: Sequence[Path], *, framed: bool) -> None:
        """Send files, with the names or sizes by which the client separates them."""
        self.delivering = True
        try:
            async with self._turn:
                await self._send_files(paths, framed)
        finally:
            self.delivering = False

    async def _send_files(self, paths: Sequence[Path], framed: bool) -> None:
        with ExitStack() as stack:
            files = await on_disk(_open_all, paths, stack)
            names = [path.name for path in paths]
            listing = FileListing(tuple(map(FileEntry, names, [size for _, size in files])))
            await self._write(encode_framed(listing) if framed else encode_names(names))
            for index, (file, size) in enumerate(files):
                if index and not framed:
                    await self._write(MORE)
                await send_file(
                    self._sock, file.fileno(), 0, size, stall_timeout=self._stall_timeout, peer=self._peer
                )
            await self._write(encode_framed(Finished()) if framed else QUIT)

    async def _write(self, data: bytes) -> None:
        async with deadline(self._stall_timeout, f"room for an answer to {self._peer}"):
            try:
                await asyncio.get_running_loop().sock_sendall(self._sock, data)
            except OSError as error:
                raise ConnectionError(f"{self._peer} disconnected: {error.strerror or error}") from error


class Responder:
    """Responds to one request, framed or in the original's words."""

    def __init__(self, writer: ResponseWriter, *, framed: bool) -> None:
        self.framed = framed
        self._writer = writer

    async def busy(self) -> None:
        """Respond that a stream has the camera."""
        await self._send(BUSY, Busy())

    async def ok(self, ssrc: int | None = None) -> None:
        """Respond that the stream begins, with this SSRC if it was requested, or that the request is done."""
        await self._send(OK, Ok(ssrc))

    async def refuse(self, kind: RefusalKind, error: AsynccamError) -> None:
        """Refuse the request for a reason; an original client has no word for it.

        Raises:
            AsynccamError: The error itself, for an original client: its connection must be closed.
        """
        if not self.framed:
            raise error
        await self._writer.send(encode_framed(Refused(kind, str(error))))

    async def send_files(self, paths: Sequence[Path]) -> None:
        """Send the files that were captured."""
        await self._writer.send_files(paths, framed=self.framed)

    async def _send(self, word: bytes, response: FramedResponse) -> None:
        await self._writer.send(encode_framed(response) if self.framed else word)


def _open_all(paths: Sequence[Path], stack: ExitStack) -> list[tuple[BinaryIO, int]]:
    """Open files, which the stack closes; return them with their sizes."""
    files: list[tuple[BinaryIO, int]] = []
    for path in paths:
        with storage_errors("read", path):
            file = stack.enter_context(path.open("rb"))
            files.append((file, os.fstat(file.fileno()).st_size))
    return files
