"""Certificates are judged alike over ``wss`` and ``https``, for names with their dot and without."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from asynccam.errors import AuthenticationError
from asynccam.net.http import HttpClient, limits_of
from asynccam.net.tls import client_context
from asynccam.net.websocket import WebSocketOptions, open_websocket

trustme = pytest.importorskip("trustme")


@asynccontextmanager
async def serving(certificate: Any, path: Path) -> AsyncIterator[int]:
    """A server of both protocols with a certificate."""
    pem = path / "server.pem"

    def write() -> ssl.SSLContext:
        certificate.private_key_and_cert_chain_pem.write_to_path(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/ws", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=await asyncio.to_thread(write))
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def both(host: str, port: int, authority: Any, path: Path) -> tuple[str, str]:
    """Return what either protocol says; ``""`` if it connects."""
    file = path / "authority.pem"
    await asyncio.to_thread(authority.cert_pem.write_to_path, file)
    tls = await client_context(ca_file=file)
    said = []
    try:
        socket = await open_websocket(
            f"wss://{host}:{port}/ws", lambda message: None, WebSocketOptions(tls=tls)
        )
        await socket.aclose()
        said.append("")
    except AuthenticationError as error:
        said.append(str(error).replace("wss://", "SCHEME://"))
    async with HttpClient(tls=tls) as client:
        try:
            url = URL(f"https://{host}:{port}/ws")
            await client.fetch("GET", url, limits=limits_of(5), max_size=10)
            said.append("")
        except AuthenticationError as error:
            said.append(str(error).replace("https://", "SCHEME://"))
    return said[0], said[1]


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is this computer."""
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def here(self: Any, host: Any, port: Any, **options: Any) -> Any:
        return await real(self, "127.0.0.1", port, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", here)
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", aiohttp.ThreadedResolver)


@pytest.mark.own_loop
@pytest.mark.usefixtures("resolves")
@pytest.mark.parametrize("host", ["cam.lan", "cam.lan."])
async def test_certificate_name_with_trailing_dot(host: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    async with serving(authority.issue_cert("cam.lan"), tmp_path) as port:
        assert await both(host, port, authority, tmp_path) == ("", "")


def _expired(authority: Any) -> Any:
    return authority.issue_cert("cam.lan", not_after=datetime.now(UTC) - timedelta(days=1))


@pytest.mark.own_loop
@pytest.mark.usefixtures("resolves")
@pytest.mark.parametrize("host", ["cam.lan", "cam.lan."])
@pytest.mark.parametrize(
    ("issue", "words"),
    [
        (_expired, "expired"),
        (lambda authority: trustme.CA().issue_cert("cam.lan"), "issuer"),
        (lambda authority: authority.issue_cert("other.lan"), "not valid for"),
    ],
)
async def test_certificate_errors_are_alike_for_wss_and_https(
    host: str, issue: Callable[[Any], Any], words: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    async with serving(issue(authority), tmp_path) as port:
        over_websocket, over_http = await both(host, port, authority, tmp_path)
    assert words in over_websocket
    assert over_websocket == over_http
