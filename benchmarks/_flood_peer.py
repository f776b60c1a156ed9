"""A peer that sends as fast as it can: ``python -m benchmarks._flood_peer KIND``.

Prints the port it listens on; serves one connection after another until it is killed.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Final

_BLOCK: Final = 64 * 1024
_PICTURE: Final = {"device": "camera0", "status": "CONNECTED", "name": "Camera 0", "resolution": "1920x1080"}


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A WebSocket frame of a server."""
    if len(payload) < 126:
        return bytes((128 | opcode, len(payload))) + payload
    if len(payload) < 1 << 16:
        return bytes((128 | opcode, 126)) + struct.pack("!H", len(payload)) + payload
    return bytes((128 | opcode, 127)) + struct.pack("!Q", len(payload)) + payload


def notice(method: str, params: object) -> bytes:
    """A notification as a WebSocket frame."""
    return frame(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())


def blocks(message: bytes) -> Iterator[bytes]:
    """The same message without end, in pieces of some length."""
    return repeat(message * max(1, _BLOCK // len(message)))


def numbered() -> Iterator[bytes]:
    """Notifications of ever new cameras."""
    number = 0
    while True:
        many = range(number, number + 400)
        number += 400
        yield b"".join(
            notice("camera_status_update", {"device": f"/dev/video{one}", "status": "CONNECTED"})
            for one in many
        )


FLOODS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "notices": lambda: blocks(notice("camera_status_update", _PICTURE)),
    "short notices": lambda: blocks(frame(b'{"method":"a"}')),
    "new cameras": numbered,
    "batches": lambda: blocks(frame(b"[" + b",".join([b'{"method":"a"}'] * 1000) + b"]")),
    "long batches": lambda: blocks(frame(b"[" + b",".join([b"{}"] * 340_000) + b"]")),
    "long text": lambda: blocks(frame(b'{"method":"a","params":["' + b"a" * (15 << 20) + b'"]}')),
    "pings": lambda: blocks(frame(b"", 9)),
    "empty fragments": lambda: blocks(b"\x00\x00"),
    "not JSON": lambda: blocks(frame(b"x")),
    "heartbeats": lambda: blocks(b'{"command":"HEARTBEAT","timestamp":1.5,"deviceId":"a"}'),
    "busy": lambda: blocks(b"BUSY"),
    "body": lambda: blocks(b'{"name":"a"},'),
    "lines": lambda: blocks(b"\n"),
}
_OVER_WEBSOCKET: Final = tuple(FLOODS)[:9]


def shake_hands(sock: socket.socket) -> None:
    """Complete the opening handshake of a WebSocket."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += sock.recv(4096)
    match = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    assert match is not None
    accept = base64.b64encode(hashlib.sha1(match[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def serve(sock: socket.socket, kind: str, *, answers: bool) -> None:
    """Flood one connection; ``answers`` says whether a MediaMTX client's sign-in is answered before."""
    try:
        if kind in _OVER_WEBSOCKET:
            shake_hands(sock)
            for number in (1, 2, 3) if answers else ():  # its generation, events, and the list of cameras
                sock.recv(4096)
                sock.sendall(frame(json.dumps({"id": number, "result": {"cameras": []}}).encode()))
        elif kind == "body":
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
        if kind == "empty fragments":
            sock.sendall(b"\x01\x00")
        for block in FLOODS[kind]():
            sock.sendall(block)
    except OSError:
        sock.close()


def main() -> None:
    """Listen, and flood whoever comes."""
    kind, answers = sys.argv[1], sys.argv[2:] == ["answered"]
    if kind == "lines":
        for block in FLOODS[kind]():
            sys.stdout.buffer.write(block)
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        sock, _ = server.accept()
        threading.Thread(target=serve, args=(sock, kind), kwargs={"answers": answers}, daemon=True).start()


if __name__ == "__main__":
    main()
