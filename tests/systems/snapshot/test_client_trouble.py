"""SnapshotClient: refusals, invalid responses, broken connections and slow servers."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from asynccam import errors
from asynccam.systems.snapshot import SnapshotClient, SnapshotClientError
from asynccam.systems.snapshot.models import parse_cameras, parse_result, parse_results
from tests.support.cancelling import cancelled_at
from tests.support.snapshot_field_server import RAW_FRAME, FieldServer, in_the_field, jpeg, page, says, text
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_waits_between_tries")

# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "status", "words"),
    [
        (page(404), errors.NotFoundError, 404, "not found on the server"),
        (page(405), errors.DeviceError, 405, "method is not allowed"),
        (page(500), errors.DeviceError, 500, "internal error"),
        (says({"success": False, "error": "no"}, "500 X"), errors.DeviceError, 500, "500: no$"),
        (says({"error": {"code": "x", "message": "typed"}}, "422 X"), errors.DeviceError, 422, "422: typed$"),
        (says(["odd"], "400 X"), errors.DeviceError, 400, "odd"),
        (text("401 UNAUTHORIZED", b"token?"), errors.AuthenticationError, 401, "token"),
        (text("403 FORBIDDEN", b""), errors.PermissionDeniedError, 403, "HTTP 403$"),
        (text("503 BUSY", b"\xff\xfe"), errors.BusyError, 503, "503"),
        (text("502 BAD GATEWAY", b"<h1>nginx &amp; co</h1>"), errors.BusyError, 502, "nginx & co$"),
        (text("302 FOUND", b"", "Location: https://h/x"), errors.RemoteProtocolError, 302, "https://h/x"),
        (text("204 NO CONTENT", b""), errors.RemoteProtocolError, 204, "204"),
    ],
)
async def test_status_becomes_an_error(
    client: SnapshotClient,
    field: FieldServer,
    answer: bytes,
    kind: type[errors.AsynccamError],
    status: int,
    words: str,
) -> None:
    for request in ("GET /api/cameras", "POST /api/snapshot/left", "POST /api/snapshot/all"):
        field.raw[request] = answer
    for call in (client.get_cameras(), client.snapshot_camera("left"), client.snapshot_all_cameras()):
        with pytest.raises(SnapshotClientError, match=words) as raised:
            await call
        assert isinstance(raised.value, kind)
        assert raised.value.status_code == status
        assert raised.value.response_text == answer.partition(b"\r\n\r\n")[2].decode(errors="replace")
    assert len(field.requests) == 3  # a redirect is told, not followed


async def test_unknown_camera_and_failed_capture(client: SnapshotClient, field: FieldServer) -> None:
    field.failing["left"] = "v4l2-ctl: Device or resource busy"
    with pytest.raises(errors.NotFoundError, match=r"'nobody'.*Camera not found"):
        await client.snapshot_camera("nobody")
    with pytest.raises(errors.DeviceError, match="resource busy") as raised:
        await client.snapshot_camera("left")
    assert isinstance(raised.value, SnapshotClientError)
    assert raised.value.status_code == 500


async def test_failure_with_200_is_a_result(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.raw["POST /api/snapshot/left"] = says({"success": False, "error": "lens cap"})
    result = await client.snapshot_camera("left")
    assert not result.get("success")
    assert result.get("error") == "lens cap"
    with pytest.raises(SnapshotClientError, match="lens cap"):
        await client.snapshot("left", tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", b"[1]", b"<html>hi</html>", b'{"success": null}', b'"\xff"', b"[" * 5000],
)
async def test_invalid_response_is_an_error(client: SnapshotClient, field: FieldServer, body: bytes) -> None:
    for request in ("GET /api/cameras", "POST /api/snapshot/left", "POST /api/snapshot/all"):
        field.raw[request] = text("200 OK", body, "Content-Type: application/json")
    for call in (client.get_cameras(), client.snapshot_camera("left"), client.snapshot_all_cameras()):
        with pytest.raises(SnapshotClientError, match="not a") as raised:
            await call
        assert isinstance(raised.value, errors.RemoteProtocolError)
        assert raised.value.status_code == 200
        assert raised.value.response_text == body.decode(errors="replace")


async def test_endless_response_is_bounded(
    client: SnapshotClient, field: FieldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asynccam.systems.snapshot.client.MAX_IMAGE", 100_000)
    field.raw["GET /snapshots/a.jpg"] = text("200 OK", b"\xff\xd8\xff" + bytes(2_000_000))
    with pytest.raises(SnapshotClientError, match="more than 100000 bytes"):
        await client.fetch_image("/snapshots/a.jpg")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "width", "stereo", "success", "results", "camera_name", "status", "error", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values)
def test_any_json_is_a_result_or_an_error(value: object) -> None:
    data = json.dumps(value).encode()
    for parse in (parse_cameras, parse_result, parse_results):
        try:
            parse(data, "peer")
        except errors.RemoteProtocolError as error:
            assert "peer sent a response that is not a" in str(error)  # noqa: PT017 - either outcome is right


@given(st.binary(max_size=40))
def test_any_bytes_are_a_result_or_an_error(data: bytes) -> None:
    for parse in (parse_cameras, parse_result, parse_results):
        try:
            parse(data, "peer")
        except errors.RemoteProtocolError as error:
            assert "peer sent a response that is not a" in str(error)  # noqa: PT017 - either outcome is right


# -- pictures that are none ---------------------------------------------------------------------


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (RAW_FRAME, "raw frame"),
        (b"<!doctype html><p>no", "web page"),
        (b"\xff", "not a JPEG"),
        (b"\xff\xd8", "not a JPEG"),
        (b"\0" * 5000, "00 00 00"),
    ],
)
async def test_raw_frame_is_refused_and_leaves_nothing(
    client: SnapshotClient, field: FieldServer, tmp_path: Path, content: bytes, words: str, announce: bool
) -> None:
    field.pictures["left"] = content
    field.announce = announce
    with pytest.raises(errors.RemoteProtocolError, match=words):
        await client.snapshot("left", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (name,) = field.snapshots
    with pytest.raises(SnapshotClientError, match=words):
        await client.fetch_image(f"/snapshots/{name}")


async def test_empty_picture_is_refused(client: SnapshotClient, field: FieldServer, tmp_path: Path) -> None:
    field.raw["GET /snapshots/a.jpg"] = text("200 OK", b"")
    with pytest.raises(SnapshotClientError, match="is empty"):
        await client.download("/snapshots/a.jpg", tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_download_without_length_is_restarted(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    picture = jpeg(size=(640, 480))
    field.pictures["left"], field.announce, field.breaks = picture, False, [3, 700, 1000]
    local = await client.snapshot("left", tmp_path)
    assert local.path.read_bytes() == picture
    assert len([request for request in field.requests if "/snapshots/" in request]) == 4
    assert len(field.captures) == 1
    assert list(tmp_path.iterdir()) == [local.path]


async def test_download_with_length_is_resumed(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    picture = jpeg(size=(640, 480))
    field.pictures["left"], field.breaks = picture, [0, 10, 700]
    assert (await client.snapshot("left", tmp_path)).path.read_bytes() == picture


async def test_download_that_always_breaks_keeps_its_part(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.pictures["left"], field.announce, field.breaks = jpeg(size=(640, 480)), False, [700] * 50
    with pytest.raises(errors.TransferError, match="broke off") as raised:
        await client.snapshot("left", tmp_path)
    assert raised.value.part is not None
    assert raised.value.part.read_bytes() == jpeg(size=(640, 480))[:700]


async def test_zeros_after_the_picture_are_harmless(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.pictures["left"], field.announce = jpeg() + bytes(600), False
    assert (await client.snapshot("left", tmp_path)).size == len(jpeg()) + 600


async def test_missing_picture_is_not_found(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    for call in (client.fetch_image("/snapshots/no.jpg"), client.download("/snapshots/no.jpg", tmp_path)):
        with pytest.raises(errors.NotFoundError):
            await call
    assert list(tmp_path.iterdir()) == []


# -- servers that are slow, or go away ----------------------------------------------------------


async def test_server_vanishes_during_a_session(client: SnapshotClient, field: FieldServer) -> None:
    await client.get_cameras()
    field.vanish = True
    with pytest.raises(SnapshotClientError) as lost:
        await client.snapshot_camera("left")
    assert isinstance(lost.value, errors.ConnectionError)
    assert lost.value.maybe_executed
    assert lost.value.status_code is None
    with pytest.raises(SnapshotClientError, match="cannot reach") as refused:
        await client.snapshot_camera("left")
    assert isinstance(refused.value, errors.ConnectionError)
    assert not refused.value.maybe_executed
    assert len(field.captures) == 1  # never sent twice


async def test_server_vanishes_before_the_download(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    result = await client.snapshot_camera("left")
    field.vanish = True
    with pytest.raises(SnapshotClientError):
        await client.download(result, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_broken_response_is_an_error(client: SnapshotClient, field: FieldServer) -> None:
    whole = says([{"name": "left"}])
    for cut in range(1, len(whole), 7):
        field.raw["GET /api/cameras"] = whole[:cut]
        with pytest.raises(SnapshotClientError):
            await client.get_cameras()


async def test_other_protocol_is_an_error(client: SnapshotClient, field: FieldServer) -> None:
    field.raw["GET /api/cameras"] = b"220 smtp ready\r\n\r\n"
    with pytest.raises(errors.RemoteProtocolError, match="does not speak HTTP") as raised:
        await client.get_cameras()
    assert isinstance(raised.value, SnapshotClientError)


async def test_requests_and_captures_have_own_timeouts(field: FieldServer) -> None:
    field.hold.clear()
    async with SnapshotClient(base_url=field.url, capture_timeout=0.05, all_timeout=0.05) as client:
        for call in (client.snapshot_camera("left"), client.snapshot_all_cameras()):
            with pytest.raises(errors.TimeoutError) as raised:
                await call
            assert raised.value.maybe_executed
            assert isinstance(raised.value, SnapshotClientError)
        assert len(await client.get_cameras()) == 2  # waits for nothing


async def test_capture_timeout_covers_existing_servers() -> None:
    client = SnapshotClient(base_url="http://h")
    assert client._capture_limits.total is not None
    assert client._all_limits.total is not None
    assert client._all_limits.total > client._capture_limits.total > 45 + 30


async def test_cancelled_capture_leaves_nothing(
    client: SnapshotClient, field: FieldServer, tmp_path: Path
) -> None:
    field.hold.clear()
    task = asyncio.ensure_future(client.snapshot("left", tmp_path))
    await eventually(lambda: field.captures)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


async def test_cancelled_at_each_await(field: FieldServer, tmp_path: Path) -> None:
    for count in range(1, 200):
        directory = tmp_path / str(count)

        async def whole(directory: Path = directory) -> None:
            await SnapshotClient(base_url=field.url).snapshot("left", directory)

        if not await cancelled_at(whole(), count):
            break
        left = [path for path in directory.glob("*") if path.suffix != ".part"] if directory.exists() else []
        assert all(path.read_bytes() == jpeg() for path in left)
    else:
        pytest.fail("it never came to its end")


async def test_untrusted_certificate_is_an_error() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    field = FieldServer()
    server = await asyncio.start_server(field.serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with SnapshotClient(base_url=url) as client:
            with pytest.raises(errors.AuthenticationError, match="not trusted") as raised:
                await client.get_cameras()
            assert isinstance(raised.value, SnapshotClientError)
        async with SnapshotClient(base_url=url, tls=trusting) as client:
            assert len(await client.get_cameras()) == 2
    finally:
        server.close()
        await server.wait_closed()


async def test_client_over_ipv6() -> None:
    async with in_the_field(FieldServer(host="::1")) as field:
        client = SnapshotClient(base_url=field.url)
        assert len(await client.get_cameras()) == 2
        assert client.address == f"snapshot://[::1]:{field.port}"
