"""Connected sockets: names resolved off the loop, addresses raced, errors as asynccam's."""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Sequence
from functools import lru_cache, partial

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from asynccam.errors import ConnectionError, UsageError
from asynccam.runtime.tasks import set_result, thread_errors, turn_limiter
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)

# RFC 8305, section 5: the head start of one address before the next is tried beside it.
_ATTEMPT_DELAY = 0.25
_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


async def connect_tcp(host: str | Sequence[str], port: int, *, timeout: float | None) -> socket.socket:
    """Open a TCP connection as a bare non-blocking socket with ``TCP_NODELAY``.

    ``host`` may be several names or addresses of one peer: all of them are tried, in order and beside each
    other. ``timeout`` seconds are for name resolution and connecting together; None where the caller has a
    deadline. The caller closes the socket.

    Raises:
        ConnectionError: The name does not resolve, or no address accepts.
        TimeoutError: Nothing answered in time.
        UsageError: Host or port is invalid.
    """
    hosts = (host,) if isinstance(host, str) else tuple(host)
    peer = _peer_name(hosts, port)
    if timeout is None:
        return await _connect_any(hosts, port, peer)
    async with deadline(timeout, f"connection to {peer}"):
        return await _connect_any(hosts, port, peer)


@lru_cache(maxsize=4096)
def _peer_name(hosts: tuple[str, ...], port: int) -> str:
    """Check hosts and port, and return them for messages."""
    if not 1 <= port <= 65535:
        raise UsageError(f"{port} is not a TCP port")
    if not hosts or not all(hosts) or any("\0" in name for name in hosts):  # C would stop reading at a NUL
        raise UsageError(f"{' or '.join(map(repr, hosts)) or 'nothing'} is not a host name")
    return " or ".join(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in hosts)


async def _connect_any(hosts: tuple[str, ...], port: int, peer: str) -> socket.socket:
    try:
        addresses = await _resolve_all(hosts, port)
        if len(addresses) == 1:  # nothing to race: hundreds of cameras are connected to at once
            sock = await _connect(addresses[0])
        else:
            sock = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_ATTEMPT_DELAY, socket_factory=_undelayed_socket
            )
    except OSError as error:
        _LOG.debug("no connection to %s: %s", peer, _reason(error))
        raise ConnectionError(f"cannot connect to {peer}: {_reason(error)}") from error
    except ValueError as error:  # a label that IDNA refuses
        raise UsageError(f"{' or '.join(map(repr, hosts))} is not a host name: {error}") from error
    _LOG.debug("connected to %s", peer)
    return sock


async def _connect(info: AddrInfoType) -> socket.socket:
    """Connect as `asyncio.loop.sock_connect` does, with less work for each of hundreds of connections."""
    loop = asyncio.get_running_loop()
    sock = _undelayed_socket(info)
    try:
        sock.setblocking(False)
        if os.name == "nt":  # its event loop has no `add_writer`
            await loop.sock_connect(sock, info[4])
            return sock
        code = sock.connect_ex(info[4])
        if code in _IN_PROGRESS:
            await _writable(loop, sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    number, future = sock.fileno(), loop.create_future()

    def ready() -> None:
        loop.remove_writer(number)
        if not future.done():
            future.set_result(None)

    loop.add_writer(number, ready)
    try:
        await future
    except BaseException:
        loop.remove_writer(number)
        raise


async def receive_some(sock: socket.socket, size: int) -> tuple[bytes, float]:
    """Wait for bytes, and return at most ``size`` of them with the monotonic time at which they were read.

    ``b""`` is the end of the stream. Unlike `asyncio.loop.sock_recv` this always takes a turn of the event
    loop, so that a peer that floods does not block it. Of hundreds that answer at the same moment, the bytes
    are read at once and returned in several turns, see `asynccam.runtime.tasks.in_turn`.

    Raises:
        OSError: The connection is lost.
    """
    loop = asyncio.get_running_loop()
    if os.name == "nt":  # its event loop has no `add_reader`
        await asyncio.sleep(0)
        return await loop.sock_recv(sock, size), time.monotonic()
    limiter = turn_limiter()
    number: int = sock.fileno()
    if number < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    future: asyncio.Future[tuple[bytes, float]] = loop.create_future()

    def read() -> None:
        try:
            data = sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return  # called again
        except OSError as error:
            loop.remove_reader(number)
            if not future.done():
                future.set_exception(error)
            return
        received = data, time.monotonic()
        loop.remove_reader(number)
        limiter.call(partial(set_result, future, received))

    loop.add_reader(number, read)
    try:
        return await future
    except BaseException:
        loop.remove_reader(number)
        raise


def _reason(error: OSError) -> str:
    """Return the system's text; asyncio replaces it by its own, which repeats the address only."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)


async def open_transport(
    protocol: asyncio.BaseProtocol,
    sock: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> None:
    """Give a connected socket to the loop, which closes it at the end of the connection.

    After an error or a cancellation the protocol had its ``connection_lost`` called, and the caller
    closes the socket. Errors are those of `asyncio.loop.create_connection`.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: protocol, sock=sock, ssl=tls, server_hostname=server_hostname)
    except BaseException:
        # asyncio closes its transport and reports that later. uvloop does not report it, and has closed the
        # descriptor, whose number may soon be another's.
        try:
            os.fstat(sock.fileno())
        except OSError:
            sock.detach()
        protocol.connection_lost(None)
        raise


async def _resolve_all(hosts: Sequence[str], port: int) -> list[AddrInfoType]:
    """Return the addresses of all hosts; raise only if none of them resolves."""
    addresses: list[AddrInfoType] = []
    for index, host in enumerate(hosts, 1):
        try:
            addresses += await _resolve(host, port)
        except OSError:
            if index == len(hosts) and not addresses:
                raise
    return addresses


async def _resolve(host: str, port: int) -> list[AddrInfoType]:
    """Return the addresses of a host; a literal address needs no thread."""
    if _needs_no_resolver(host):
        return [_address_info(host, port)]
    try:
        with thread_errors():
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # Many systems do not ask the local network: containers, and those without nss-mdns.
        local = await resolve_by_mdns(host)
        if not local:
            raise
        return [_address_info(address, port) for address in local]
    return list(found)


@lru_cache(maxsize=4096)
def _needs_no_resolver(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 4 or "%" not in host  # the resolver turns a zone's name into its number


async def host_for_others(host: str) -> str:
    """Return a host as other programs resolve it: an address where only our own mDNS knows the name.

    An unknown name is returned unchanged, so that the other program reports it.

    Raises:
        BusyError: No thread can be started to look it up.
    """
    if not _is_local(host):
        return host
    try:
        with thread_errors():
            await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return next(iter(await resolve_by_mdns(host)), host)
    return host


def _is_local(host: str) -> bool:
    return host.rstrip(".").lower().endswith(".local")


async def resolve_by_mdns(host: str) -> list[str]:
    """Return the addresses of a ``.local`` name by mDNS; none for another name or without an answer."""
    if not _is_local(host):
        return []
    from asynccam.net.mdns import resolve_local  # seldom needed, and zeroconf takes a while to load

    try:
        return await resolve_local(host)
    except ConnectionError:  # no mDNS here: the resolver's own error says more
        return []


def _address_info(address: str, port: int) -> AddrInfoType:
    if ":" not in address:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
    plain, _, zone = address.partition("%")
    endpoint = (plain, port, 0, int(zone) if zone.isdecimal() else 0)
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", endpoint)


def _undelayed_socket(info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
