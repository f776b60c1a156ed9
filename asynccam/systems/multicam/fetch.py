"""GET_VIDEO: one file from a device onto this computer's disk.

Some devices delete their copy once its last byte is written to the socket, whether or not anybody read
it, and nothing resumes. So everything that can fail here is tried before the command leaves, the
command leaves once, and what arrives is kept. See docs/protocols/multicam.md, "GET_VIDEO".
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Final

from asynccam.errors import ConnectionError, InsufficientSpaceError, StorageError
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.download import PartFile, receive_file
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.connection import Connection
from asynccam.systems.multicam.models import FileResponse
from asynccam.systems.multicam.refusal import refusal
from asynccam.systems.multicam.wire import DeviceRefusal, FileHeader, FileReader

_LOG = logging.getLogger(__name__)

SMALL_FILE: Final = 16 << 20
"""A file up to about this many bytes fits into the buffers between device and controller, so a device
may have deleted it before a byte was read; so much room there must be before a file is asked for."""


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
            directory.mkdir(parents=True, exist_ok=True)
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
            "%s listed %r with %d bytes and now sends %d", connection.peer, name, size, header.fileSize
        )
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
