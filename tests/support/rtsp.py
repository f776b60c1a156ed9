"""A small RTSP server for one stream over TCP, fed with RTP by GStreamer; just what a player asks for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.support.gst import rtp_sender, running


class _Rtp(asyncio.DatagramProtocol):
    """Hands every RTP packet to whoever plays, interleaved on channel 0 (RFC 2326, 10.12)."""

    def __init__(self) -> None:
        self.players: set[asyncio.StreamWriter] = set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for player in self.players:
            player.write(b"$\0" + len(data).to_bytes(2, "big") + data)


class RtspServer:
    """Serves ``rtsp://127.0.0.1:PORT/camera``."""

    def __init__(self, codec: str, sender: Callable[[int, str], list[str]] = rtp_sender) -> None:
        self._codec = codec.upper()
        self._sender = sender
        self._rtp = _Rtp()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RtspServer"]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self._rtp, local_addr=("127.0.0.1", 0))
        rtp_port = transport.get_extra_info("sockname")[1]
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/camera"
        try:
            async with running(*self._sender(rtp_port, self._codec.lower())):
                yield self
        finally:
            self.hang_up()
            server.close()
            await server.wait_closed()
            transport.close()

    def hang_up(self) -> None:
        """Close every connection, as a server that goes away does."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while request := await self._request(reader):
                method, sequence = request
                headers, body = self._answer(method)
                lines = ["RTSP/1.0 200 OK", f"CSeq: {sequence}", *headers, f"Content-Length: {len(body)}"]
                writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
                if method == "PLAY":
                    self._rtp.players.add(writer)
                elif method == "TEARDOWN":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._rtp.players.discard(writer)
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, str] | None:
        """Method and sequence number of the next request, past RTCP packets from the player."""
        while (first := await reader.readexactly(1)) == b"$":
            await reader.readexactly(int.from_bytes((await reader.readexactly(3))[1:], "big"))
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        sequence = next(line for line in head.split("\r\n") if line.lower().startswith("cseq:"))
        return head.split(" ", 1)[0], sequence.split(":")[1].strip()

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "OPTIONS":
            return ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"], ""
        if method == "DESCRIBE":
            lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "t=0 0", "m=video 0 RTP/AVP 96"]
            lines += ["c=IN IP4 0.0.0.0", f"a=rtpmap:96 {self._codec}/90000", "a=control:track1", ""]
            return [f"Content-Base: {self.url}/", "Content-Type: application/sdp"], "\r\n".join(lines)
        if method == "SETUP":
            return ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1;timeout=60"], ""
        return ["Session: 1"], ""
