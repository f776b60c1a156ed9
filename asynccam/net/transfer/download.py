"""Receive a file of known size from a bare socket into a part, as fast as the kernel can.

A device may delete its copy as soon as it has sent the last byte (docs/protocols/multicam.md), so whatever
is received is kept, on every failure.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Literal

from asynccam.errors import TransferError, UsageError
from asynccam.model.features import Progress
from asynccam.net.transfer.base import BufferedTransfer, PeerClosedError, TransferBackend
from asynccam.net.transfer.partfile import PartFile
from asynccam.runtime.tasks import belongs_to_parent, finish, leave_child

if sys.platform == "linux":
    from asynccam.net.transfer.splice import SpliceTransfer

TransferMethod = Literal["auto", "splice", "buffered"]
"""``splice`` is Linux only; ``buffered`` works on every loop; ``auto`` is the better of the two."""

_PROGRESS_INTERVAL = 0.1  # seconds


async def receive_file(
    sock: socket.socket,
    part: PartFile,
    size: int,
    *,
    prefix: bytes = b"",
    stall_timeout: float = 600.0,
    progress: Progress | None = None,
    method: TransferMethod = "auto",
) -> None:
    """Move exactly ``size`` bytes from a socket into a part; what follows them stays in the socket.

    The part is ready for `PartFile.commit` afterwards. However it ends otherwise, the part is kept
    with every byte that was taken from the socket, or removed if there was none. Memory does not
    grow with the file, and the loop serves others after every 1 MiB or 3 ms.

    Args:
        sock: Connected, non-blocking, without TLS; closed by the caller.
        part: Receives the bytes.
        size: Bytes of the file, including the prefix.
        prefix: First bytes of the file, if some were read already.
        stall_timeout: Seconds without a single byte after which the transfer fails; the whole has no limit.
        progress: Called at the start, at the end, and at most ten times a second between.
        method: ``splice``, ``buffered`` or ``auto``.

    Raises:
        TransferError: The connection was closed, reset or silent; ``part`` is what was received.
        StorageError: The disk refused.
        UsageError: ``size`` does not fit the part or the prefix, or ``splice`` is not available here.
    """
    try:
        if len(prefix) > size or part.size not in (None, size):
            raise UsageError(f"{size} bytes to receive, {len(prefix)} of them read, do not fit {part.size}")
        make = _backend_class(method)
        if prefix:
            await part.write(prefix)
        if progress is not None:
            progress(part.received, size)
        if part.received < size:
            await _transfer(make(sock, part, size), stall_timeout, progress)
            if progress is not None:
                progress(size, size)
    except PeerClosedError as error:
        kept = await part.keep()
        raise TransferError(
            f"{part.target.name} from {_peer_name(sock)}: {error} after {part.received} of {size} bytes",
            part=kept,
            received=part.received,
            expected=size,
        ) from error
    except BaseException:
        await part.keep()
        raise


async def _transfer(backend: TransferBackend, stall_timeout: float, progress: Progress | None) -> None:
    watch = _ProgressTimer(backend, stall_timeout, progress)
    try:
        # Most have nothing to wait for, and a task for nothing costs as much as many kilobytes.
        if (starting := backend.start()) is not None:
            await finish(starting)
        watch.start()
        await backend.done
    finally:
        watch.stop()
        if belongs_to_parent():
            leave_child()
        if (stopping := backend.stop()) is not None:
            await finish(stopping)


def _backend_class(choice: TransferMethod) -> Callable[[socket.socket, PartFile, int], TransferBackend]:
    if sys.platform == "linux" and choice in ("auto", "splice"):
        return SpliceTransfer
    if choice == "splice":
        raise UsageError(f"splice needs Linux, this is {sys.platform}")
    return BufferedTransfer


def _peer_name(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):  # reset already, or a socket without ports
        return "the peer"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _ProgressTimer:
    """One timer for a whole transfer: detects a stall and reports progress."""

    def __init__(self, backend: TransferBackend, stall_timeout: float, progress: Progress | None) -> None:
        self._backend = backend
        self._stall_timeout = stall_timeout
        self._progress = progress
        self._interval = min(_PROGRESS_INTERVAL if progress is not None else 1.0, stall_timeout / 4)
        self._seen = backend.part.received
        self._moved_at = backend.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._backend.loop.call_later(self._interval, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        received, now = self._backend.part.received, self._backend.loop.time()
        if received != self._seen:
            self._seen, self._moved_at = received, now
            if self._progress is not None and received < self._backend.size:
                try:
                    self._progress(received, self._backend.size)
                except Exception as error:  # noqa: BLE001 - raised by receive_file
                    self._backend.fail(error)
                    return
        elif now - self._moved_at >= self._stall_timeout:
            self._backend.fail(PeerClosedError(f"nothing moved for {self._stall_timeout:g} s,"))
            return
        self.start()
