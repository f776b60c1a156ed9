"""A file from disk into a socket without passing through this process's memory."""

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
"""Bytes a thread hands to the kernel at once: large enough to be quick, small enough that twenty
transfers share the threads fairly."""


async def send_file(
    sock: socket.socket, fd: int, offset: int, end: int, *, stall_timeout: float, peer: str
) -> None:
    """Send bytes ``offset`` to ``end`` of an open file through a non-blocking socket.

    The kernel copies (``sendfile``) in a thread, because a disk may be slow; a thread is only held
    while the socket takes data, so slow readers hold none.

    Args:
        sock: Connected, non-blocking.
        fd: The file.
        offset: First byte to send.
        end: First byte not to send.
        stall_timeout: Seconds the peer may take nothing.
        peer: Names the other end in errors.

    Raises:
        ConnectionError: The peer went away.
        TimeoutError: It took nothing for ``stall_timeout`` seconds.
        StorageError: The file became shorter meanwhile.
    """
    loop = asyncio.get_running_loop()
    while offset < end:
        wanted = min(_CHUNK, end - offset)
        try:
            # Seen to its end even when cancelled: the thread must not use a descriptor closed since.
            sent = await finish(loop.run_in_executor(None, os.sendfile, sock.fileno(), fd, offset, wanted))
            if not sent:
                raise StorageError(f"the file for {peer} ended {end - offset} bytes early")
        except BlockingIOError:
            sent = 0
        except StorageError:
            raise
        except OSError as error:
            raise ConnectionError(f"{peer} went away after {offset} bytes: {error.strerror}") from error
        offset += sent
        if sent < wanted:
            async with deadline(stall_timeout, f"progress at {peer}, which stopped reading"):
                await _writable(sock)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():  # The loop may call back more than once before it is told to stop.
            ready.set_result(None)

    loop.add_writer(sock, wake)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def is_open_and_quiet(sock: socket.socket) -> bool:
    """Whether the peer has neither closed its side nor sent anything that is still unread."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def unacknowledged(sock: socket.socket) -> int:
    """Bytes sent that the peer's kernel has not confirmed."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
