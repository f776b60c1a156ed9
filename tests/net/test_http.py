"""Words of an HTTP server that are not UTF-8, in errors."""

import asyncio

import pytest
from yarl import URL

from asynccam.errors import DeviceError, RemoteProtocolError
from asynccam.net.http import HttpClient, limits_of, status_error
from asynccam.systems.thorvision import ThorVisionClient


async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with bytes that are not UTF-8 wherever there is text."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 500 bad \xff\xfe reason\r\nLocation: /\xff\r\nContent-Length: 4\r\n\r\n\xff\0ab")
    await writer.drain()
    writer.close()


async def test_status_error_with_text_that_is_not_utf_8() -> None:
    async with await asyncio.start_server(odd, "127.0.0.1", 0) as server, HttpClient() as client:
        port = server.sockets[0].getsockname()[1]
        async with client.request("GET", f"http://127.0.0.1:{port}/") as response:
            error = status_error(response, "a file")
        assert isinstance(error, DeviceError)
        assert str(error).encode().endswith(b"answered HTTP 500 bad ?? reason")
        answer = await client.fetch(
            "GET", URL(f"http://127.0.0.1:{port}/"), limits=limits_of(5), max_size=100
        )
        assert answer.location == "/?"
        with pytest.raises((DeviceError, RemoteProtocolError)) as caught:
            async with ThorVisionClient("127.0.0.1", port):
                pass
        str(caught.value).encode()
