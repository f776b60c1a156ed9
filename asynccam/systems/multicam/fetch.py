"""GET_VIDEO: one file from a device onto this computer's disk.

Some devices delete their copy once its last byte is written to the socket, whether or not anybody read
it, and nothing resumes. So everything that can fail here is tried before the command leaves, the
command leaves once, and what arrives is kept. See docs/protocols/multicam.md, "GET_VIDEO".
"""

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

from asynccam.errors import (
    ConnectionError,
    InsufficientSpaceError,
    RemoteProtocolError,
    StorageError,
    TimeoutError,
    TransferError,
)
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.model.safe_files import Folder
from asynccam.net.transfer.download import PartFile, receive_file
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.connection import Connection
from asynccam.systems.multicam.errors import refusal
from asynccam.systems.multicam.models import FileResponse
from asynccam.systems.multicam.protocol import DeviceRefusal, FileHeader, FileReader

_LOG = logging.getLogger(__name__)

SMALL_FILE: Final = 16 << 20
"""A file up to about this many bytes fits into the buffers between device and controller, so a device
may have deleted it before a byte was read; so much room there must be before a file is asked for."""


_FIRST_BYTES: Final = 2.0
"""Seconds in which the bytes of a file come that is announced with none, if there are any."""
_SILENCE: Final = 10.0
"""Seconds without a byte after which a file of unknown size has ended, where the device does not close."""
_PROGRESS_INTERVAL: Final = 0.1


async def prepare_directory(directory: Path, size: int | None) -> None:
    """See that a file can be stored before the device is asked for it.

    Args:
        directory: Made if missing.
        size: Bytes the file is said to have, or None.

    Raises:
        InsufficientSpaceError: It would not fit.
        StorageError: Nothing can be written there.
    """
    needed = size or SMALL_FILE

    def prepare() -> int:
        with storage_errors("store files in", directory):
            Folder(directory, make=True).close()
            if not os.access(directory, os.W_OK | os.X_OK):
                raise StorageError(f"cannot store files in {directory}: no permission to write there")
            return shutil.disk_usage(directory).free

    free = await on_disk(prepare)
    if free < needed:
        raise InsufficientSpaceError(
            f"{directory} has {free} bytes free, {needed} are wanted; the device was not asked for the file",
            needed=needed,
            free=free,
        )


async def receive(
    connection: Connection,
    directory: Path,
    *,
    name: str,
    size: int | None,
    stall_timeout: float,
    progress: Progress | None,
) -> LocalFile:
    """Receive what a GET_VIDEO that was just sent brings.

    Args:
        connection: Where it was sent.
        directory: Where the file goes.
        name: What was asked for; the file's name where the header has none.
        size: Bytes the device has listed before, or None.
        stall_timeout: Seconds without a byte, or without a header, after which it is given up.
        progress: Told of the bytes so far, at most about ten times a second.

    A file that is announced with 0 bytes, or with what is no size, lasts until the device closes the
    connection or falls silent.

    Raises:
        NotFoundError, DeviceError: The device refused.
        ConnectionError, TimeoutError: Nothing of the file came; the device may have deleted it.
        TransferError: The file ended early; the error names the part that is kept.
        RemoteProtocolError: What came is neither a file nor a refusal.
        StorageError: The disk refused; what had arrived is kept.
    """
    reader = FileReader(header_only=True, peer=connection.peer)
    async with deadline(stall_timeout, f"file from {connection.peer} ({name!r})", maybe_executed=True):
        header = await _header(connection, reader, name)
    if size and size != header.fileSize:
        _LOG.warning(
            "%s listed %r with %d bytes and now announces %s", connection.peer, name, size, header.fileSize
        )
    if not header.fileSize:
        source = _Unannounced(connection, header, name, size, stall_timeout)
        return await source.receive(directory, reader.leftover, progress)
    part = await PartFile.open(directory, header.fileName or name, size=header.fileSize)
    async with part:
        await receive_file(
            connection.sock,
            part,
            header.fileSize,
            prefix=reader.leftover,
            stall_timeout=stall_timeout,
            progress=progress,
        )
        return await part.commit(header.fileName or name)


class _Unannounced:
    """A file whose header tells no size: it ends where the device closes, or has nothing more to send.

    Args:
        connection: Where it comes from.
        header: What announced it.
        name: What was asked for.
        listed: Bytes the device has listed before, or None.
        stall_timeout: As of `receive`.
    """

    def __init__(
        self,
        connection: Connection,
        header: FileResponse,
        name: str,
        listed: int | None,
        stall_timeout: float,
    ) -> None:
        self._connection = connection
        self._announced = header.fileSize
        self._name = header.fileName or name
        self._listed = listed or 0
        self._stall_timeout = stall_timeout

    async def receive(self, directory: Path, prefix: bytes, progress: Progress | None) -> LocalFile:
        """Keep whatever comes."""
        async with await PartFile.open(directory, self._name, size=None) as part:
            broken: ConnectionError | None = None
            try:
                await self._fill(part, prefix, progress)
            except ConnectionError as error:
                if not part.received:
                    raise
                broken = error
            if not part.received and self._announced is None:
                raise RemoteProtocolError(
                    f"{self._connection.peer} announced no size for {self._name!r}, and sent nothing"
                )
            if part.received < self._listed or broken is not None:
                raise TransferError(
                    f"{self._name} from {self._connection.peer} ended after {part.received} of"
                    f" {self._listed or 'an unknown number of'} bytes",
                    part=await part.keep(),
                    received=part.received,
                    expected=self._listed or None,
                ) from broken
            if progress is not None:
                progress(part.received, part.received)
            return await part.commit(self._name)

    async def _fill(self, part: PartFile, data: bytes, progress: Progress | None) -> None:
        told_at = 0.0
        while data or (data := await self._next(part.received)):
            await part.write(data)
            data = b""
            if progress is not None and time.monotonic() - told_at >= _PROGRESS_INTERVAL:
                told_at = time.monotonic()
                progress(part.received, None)

    async def _next(self, received: int) -> bytes:
        """Some more bytes, or none at the end."""
        patience = _FIRST_BYTES if not received and not self._listed else _SILENCE
        if received and received == self._listed:
            patience = _FIRST_BYTES
        elif self._listed:
            patience = self._stall_timeout
        try:
            async with deadline(min(patience, self._stall_timeout), "more bytes"):
                return await self._connection.receive()
        except TimeoutError:
            return b""


async def _header(connection: Connection, reader: FileReader, name: str) -> FileResponse:
    while True:
        data = await connection.receive()
        if not data:
            raise ConnectionError(
                f"{connection.peer} closed the connection before it sent {name!r}", maybe_executed=True
            )
        for event in reader.feed(data):
            if isinstance(event, FileHeader):
                return event.header
            if isinstance(event, DeviceRefusal):
                raise refusal(connection.peer, "GET_VIDEO", event.error)
