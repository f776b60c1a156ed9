"""TLS: certificates are checked, unless the caller says otherwise in so many words."""

import asyncio
import ssl
from pathlib import Path

import pytest

from asynccam.errors import StorageError
from asynccam.net.tls import client_context
from asynccam.systems.mediamtx import AuthenticationError
from tests.systems.mediamtx.clients import client_of, connected
from tests.systems.mediamtx.peer import Gen1, running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, for 127.0.0.1."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    authority.cert_pem.write_to_path(path.with_name("authority.pem"))
    return path


@pytest.fixture
async def secure_peer(certificate: Path) -> Gen1:
    peer = Gen1()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, certificate)
    peer.tls = context
    return peer


async def test_unknown_certificate_is_refused(secure_peer: Gen1) -> None:
    async with running(secure_peer) as peer:
        with pytest.raises(AuthenticationError, match="certificate"):
            await client_of(peer, use_ssl=True).connect()
        assert not peer.requests, "nothing was told to a stranger"


async def test_any_certificate_is_accepted_without_verification(secure_peer: Gen1) -> None:
    async with running(secure_peer) as peer, connected(peer, use_ssl=True, verify=False) as client:
        assert await client.ping() == "pong"
        assert str(client.endpoint.address) == f"mediamtxs://127.0.0.1:{peer.port}"


async def test_own_certificate_authority_can_be_trusted(certificate: Path, tmp_path: Path) -> None:
    context = await client_context(ca_file=certificate.with_name("authority.pem"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(StorageError):
        await client_context(ca_file=tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(StorageError):
        await client_context(ca_file=tmp_path / "empty.pem")
