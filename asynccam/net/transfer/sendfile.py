"""Send a file from disk through a socket without a copy in this process's memory."""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from typing import Final

from asynccam.errors import ConnectionError, StorageError
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

_CHUNK: Final = 1024 * 1024
"""Bytes per call of the kernel: enough to be quick, few enough that twenty transfers share the threads."""


async def send_file(
    sock: socket.socket, fd: int, offset: int, end: int, *, stall_timeout: float, peer: str
) -> None:
    """Send bytes ``offset`` to ``end`` of an open file through a non-blocking socket.

    The kernel copies (``sendfile``) in a thread, because a disk may be slow; a thread is only held
    while the socket takes data, so slow readers hold none.

    Raises:
        ConnectionError: The connection was lost.
        TimeoutError: The peer took nothing for ``stall_timeout`` seconds.
        StorageError: The file became shorter meanwhile.
    """
    loop = asyncio.get_running_loop()
    while offset < end:
        wanted = min(_CHUNK, end - offset)
        try:
            # Awaited even when cancelled: the thread must not use a descriptor that was closed since.
            sent = await finish(loop.run_in_executor(None, os.sendfile, sock.fileno(), fd, offset, wanted))
            if not sent:
                raise StorageError(f"the file for {peer} ended {end - offset} bytes early")
        except BlockingIOError:
            sent = 0
        except StorageError:
            raise
        except OSError as error:
            raise ConnectionError(
                f"the connection to {peer} was lost after {offset} bytes: {error.strerror}"
            ) from error
        offset += sent
        if sent < wanted:
            async with deadline(stall_timeout, f"progress at {peer}, which stopped reading"):
                await _writable(sock)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():  # the loop may call back more than once
            ready.set_result(None)

    loop.add_writer(sock, wake)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def is_open_and_quiet(sock: socket.socket) -> bool:
    """Return whether the peer has neither closed its side nor sent anything that is still unread."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def unacknowledged(sock: socket.socket) -> int:
    """Return the number of bytes sent that the peer's kernel has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
