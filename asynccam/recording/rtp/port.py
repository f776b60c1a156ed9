"""UDP ports for RTP: one stream each, not shared with another program of this computer."""

import ipaddress
import os
import socket
import struct
from contextlib import suppress
from typing import Final

from asynccam.errors import RecordingError, StateError, UsageError

_BUFFER: Final = 4 << 20
"""Bytes of receive buffer: a burst of a key frame is larger than the kernel's usual buffer."""


class RtpPort:
    """A UDP port that is bound, alone where its address is not that of a multicast group.

    A `RtpSource` that is given one receives there; its owner closes it, after the recording. Where it is
    ``held``, no stream is taken before `choose` is called, and packets wait.

    Args:
        port: Its number, 0 for one that is free.
        address: Local address, ``0.0.0.0`` or ``::`` for all, or a multicast group to join.
        held: Whether a stream waits to be chosen.
        reports: Port for RTCP beside the one for RTP, or None for RTCP at the same port (RFC 5761).

    Raises:
        UsageError: The address is invalid.
        RecordingError: The port is taken, or the address is not one of this computer.
    """

    def __init__(
        self,
        port: int,
        address: str = "0.0.0.0",  # noqa: S104 - cameras send from other computers
        *,
        held: bool = False,
        reports: int | None = None,
    ) -> None:
        self._control: tuple[int, int] | None = None
        self._reports: socket.socket | None = None
        self._socket = _bind_socket(address, port)
        try:
            self.port: int = self._socket.getsockname()[1]
            if reports is not None:
                self._reports = _bind_socket(address, reports)
            if held:
                try:
                    self._control = os.pipe()
                    os.set_blocking(self._control[1], False)
                except OSError as error:
                    raise RecordingError(f"cannot create a pipe to the RTP filter: {error}") from error
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """The socket, the socket for RTCP or -1, and the reading end of the choice or -1.

        Raises StateError if the port is closed.
        """
        if self._socket.fileno() < 0:
            raise StateError(f"UDP port {self.port} was closed before the recording started")
        reports = -1 if self._reports is None else self._reports.fileno()
        return self._socket.fileno(), reports, -1 if self._control is None else self._control[0]

    def choose(self, not_before: float, ssrc: int | None = None) -> None:
        """Take the stream that arrived first since its sender was asked for it; without effect unless held.

        ``not_before`` is by `asynccam.wall_clock.elapsed`. An ``ssrc`` that is given alone decides.
        """
        if self._control is not None:
            wanted = "-" if ssrc is None else str(ssrc)
            with suppress(OSError):  # the filter has ended, which its recorder reports
                os.write(self._control[1], f"{int(not_before * 1e9)} {wanted}\n".encode())

    def share(self) -> None:
        """Let another program listen here, which then gets every packet."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A connected socket receives from its peer only.
        loopback = "::1" if self._socket.family == socket.AF_INET6 else "127.0.0.1"
        self._socket.connect((loopback, self.port))

    def close(self) -> None:
        """Release the port; idempotent."""
        self._socket.close()
        if self._reports is not None:
            self._reports.close()
        control, self._control = self._control, None
        for descriptor in control or ():
            os.close(descriptor)


def normalize_address(address: str) -> str:
    """Return an IP address in its usual form; raise `UsageError` if it is invalid."""
    try:
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        raise UsageError(f"{address!r} is not an IP address") from None


def is_local_address(address: str) -> bool:
    """Return whether an IP address is one of this computer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _bind_socket(address: str, port: int) -> socket.socket:
    try:
        # Names of this computer, and scopes of link-local addresses.
        family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(f"{address!r} port {port} is not a local address: {error}") from error
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        group = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if group.is_multicast:
            # Every member of a group gets every packet, so sharing the port costs no packet.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        if group.is_multicast and family == socket.AF_INET6:
            joined = group.packed + struct.pack("@I", place[3] if len(place) > 3 else 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        elif group.is_multicast:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + bytes(4))
    except OSError as error:
        sock.close()
        raise RecordingError(
            f"cannot receive at UDP port {port} of {address}: {error.strerror or error};"
            " end the program that listens there, or receive at another port"
        ) from error
    return sock
