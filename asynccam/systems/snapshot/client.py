"""SnapshotClient: the cameras of one Snapshot server. See docs/snapshot.md."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Self

import aiohttp
from yarl import URL

from asynccam.errors import AsynccamError, DamagedFileError, StateError, UsageError
from asynccam.model.credentials import TokenProvider
from asynccam.model.digest import DigestName
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.http import HttpClient, HttpResponse, limits_of
from asynccam.net.http_download import download_http
from asynccam.outside import clean_text
from asynccam.recording.containers.jpeg import JpegPicture, find_picture
from asynccam.recording.pictures import MAX_PICTURE, is_jpeg_picture, picture_offset, read_picture
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.snapshot.errors import (
    ConnectionError,
    DeviceError,
    NotFoundError,
    RemoteProtocolError,
    status_error,
    translated,
)
from asynccam.systems.snapshot.models import (
    CameraEntry,
    CameraResult,
    Picture,
    SnapshotResult,
    SnapshotResults,
    StoredPicture,
    parse_cameras,
    parse_page,
    parse_result,
    parse_results,
)
from asynccam.systems.snapshot.urls import ServerUrls, picture_name, picture_path

MAX_RESPONSE: Final = 16 * 1024 * 1024
MAX_IMAGE: Final = MAX_PICTURE
"""Maximum bytes of a picture."""
STALL_TIMEOUT: Final = 30.0
_MAX_DOWNLOADS: Final = 4
_SUCCESS: Final = (200, 201, 202)
_MAX_ERROR_BODY: Final = 64 * 1024
_HEAD_SIZE: Final = 4096
_SHOWN_BYTES: Final = 8


class SnapshotClient:
    """Client of one Snapshot server, an existing one or asynccam's. See docs/protocols/snapshot.md.

    Every failed call raises a `SnapshotClientError`, which is also the error of the same name in
    `asynccam.errors`. As a context manager it keeps connections between calls; otherwise it closes them after
    each call.

    Args:
        base_url: ``http://HOST:PORT``, optionally with a path.
        session: Caller-owned aiohttp session, or None.
        tls: Context for ``https``, or None for one that verifies.
        token: Token of the server, or a function that provides it.
        timeout: Seconds for a request.
        capture_timeout: Seconds for a capture with one camera; existing servers take up to 45.
        all_timeout: Seconds for a capture with several cameras.

    Attributes:
        base_url: Without a slash at its end.

    Raises:
        AddressError: ``base_url`` is not an HTTP URL, or contains credentials, a query or a fragment.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        tls: ssl.SSLContext | None = None,
        token: str | TokenProvider | None = None,
        timeout: float = 30.0,
        capture_timeout: float = 90.0,
        all_timeout: float = 600.0,
    ) -> None:
        for seconds in (timeout, capture_timeout, all_timeout):
            if not seconds > 0:
                raise UsageError(f"a timeout must be > 0 s, not {seconds}")
        self._urls = ServerUrls(base_url)
        self.base_url = self._urls.base
        self._http = HttpClient(session, tls=tls)
        self._token = token
        self._limits = limits_of(timeout)
        self._capture_limits = limits_of(capture_timeout)
        self._all_limits = limits_of(all_timeout)
        self._keep_connections = session is not None
        self._calls = 0
        self._closed = False

    @property
    def address(self) -> str:
        """Address of the server for `Session`: ``snapshot[s]://HOST:PORT[/PATH/]``."""
        return str(self._urls.address)

    def address_of(self, camera_name: str) -> str:
        """Return the address of a camera for `Session`, which is its id."""
        return str(self._urls.address.with_camera(camera_name))

    # -- calls of the vendor's client ---------------------------------------------------------------

    async def get_cameras(self) -> list[CameraEntry]:
        """Return the cameras configured at the server.

        Raises:
            SnapshotClientError: The request failed, or the response is invalid.
        """
        response = await self._request("GET", self._urls.cameras, self._limits)
        if response.status != 200:
            raise self._status_error("list of cameras", self._urls.cameras, response)
        return parse_cameras(response.body, self.base_url)

    async def snapshot_camera(self, camera_name: str) -> SnapshotResult:
        """Take a picture with one camera; the request is never sent twice.

        Raises:
            SnapshotClientError: There is no such camera, or the capture or the request failed.
            UsageError: Servers take the name for a group: ``all``, ``stereo`` or ``""``.
        """
        url = self._urls.capture(camera_name)
        response = await self._request("POST", url, self._capture_limits)
        if response.status not in _SUCCESS:
            raise self._status_error(f"picture of {camera_name!r}", url, response)
        return parse_result(response.body, self.base_url)

    async def snapshot_all_cameras(self) -> SnapshotResults:
        """Take a picture with every camera; the request is never sent twice.

        The results include cameras that failed.

        Raises:
            SnapshotClientError: There is no result at all.
        """
        return await self._capture_group(self._urls.all, "picture of all cameras")

    async def snapshot_stereo_cameras(self) -> SnapshotResults:
        """Take a picture with every camera of the stereo pair, as `snapshot_all_cameras`."""
        return await self._capture_group(self._urls.stereo, "picture of the stereo cameras")

    def get_image_url(self, image_url_path: str) -> str:
        """Return the complete URL of a picture, from the ``image_url_path`` of a result.

        Raises:
            SnapshotClientError: It is on another server.
        """
        return str(self._urls.image(image_url_path))

    # -- pictures -----------------------------------------------------------------------------------

    async def fetch_image(self, picture: SnapshotResult | CameraResult | str) -> bytes:
        """Return a picture, given by its result or ``image_url_path``; it is checked to be complete.

        Raises:
            SnapshotClientError: The request failed, or the response is not a JPEG.
            DamagedFileError: The JPEG is broken; a `SnapshotClientError` too.
        """
        url = self._urls.image(picture_path(picture))
        response = await self._request("GET", url, self._capture_limits, max_size=MAX_IMAGE)
        if response.status != 200:
            raise self._status_error("picture", url, response)
        try:
            begin = await on_disk(_offset_in_memory, response.body, str(url))
        except DamagedFileError as error:
            if response.bounded:
                raise translated(error) from error
            # RFC 9112 6.3: without a length the body ends where the connection does.
            raise ConnectionError(f"{url} broke off before the end of the picture: {error}") from error
        return response.body[begin:]

    async def download(
        self,
        picture: SnapshotResult | CameraResult | str,
        directory: Path | str,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download and check a picture; an existing file is never overwritten.

        Bytes before the picture are removed: other programs do not find a picture behind them. Size and
        digest are those of the file on disk.

        Args:
            picture: A result, or its ``image_url_path``.
            directory: Created if missing.
            progress: Called with bytes so far and the total.
            digest: Algorithm of the digest; None for no digest.

        Raises:
            SnapshotClientError: The request failed, or the response is not a JPEG.
            DamagedFileError: The JPEG is broken; ``part`` is the incomplete file.
            TransferError: The connection broke, and retries failed; ``part`` is the incomplete file.
            StorageError: The file cannot be written.
        """
        path = picture_path(picture)
        url = self._urls.image(path)
        async with self._working():
            return await download_http(
                self._http,
                url,
                Path(directory),
                picture_name(picture, path),
                headers=self._headers,
                progress=progress,
                stall_timeout=STALL_TIMEOUT,
                digest=digest,
                inspect=partial(_offset_on_disk, source=str(url)),
                max_size=MAX_IMAGE,
                make_error=self._download_error,
            )

    async def snapshot(
        self, camera: CameraEntry | str, directory: Path | str, *, progress: Progress | None = None
    ) -> LocalFile:
        """Take a picture with one camera, given by its entry or name, and download it as `download`.

        Raises:
            SnapshotClientError: As `snapshot_camera` and `download`; a result without success too.
            TransferError, StorageError: As `download`.
        """
        name = camera if isinstance(camera, str) else camera.name
        result = await self.snapshot_camera(name)
        if not result.success:
            raise DeviceError(
                f"picture of {name!r}: {result.error or result.message or 'the server gives no reason'}",
                status_code=200,
                response_text=json.dumps(result),
            )
        return await self.download(result, directory, progress=progress)

    async def snapshot_all(self, directory: Path | str) -> tuple[Picture, ...]:
        """Take a picture with every camera, and download them; one failure does not affect the others.

        Raises:
            SnapshotClientError: There is no result at all.
        """
        return await self._download_all(await self.snapshot_all_cameras(), directory)

    async def snapshot_stereo(self, directory: Path | str) -> tuple[Picture, ...]:
        """Take a picture with every camera of the stereo pair, and download them, as `snapshot_all`."""
        return await self._download_all(await self.snapshot_stereo_cameras(), directory)

    async def list_snapshots(self, camera_name: str | None = None) -> list[StoredPicture]:
        """Return the pictures of an asynccam server, of one camera or all, newest first.

        Raises:
            NotFoundError: An existing server, which has no such list.
            SnapshotClientError: The request failed, or the response is invalid.
        """
        pictures: dict[str, StoredPicture] = {}
        after: str | None = None
        while True:
            url = self._urls.stored(camera_name, after)
            response = await self._request("GET", url, self._limits)
            if response.status != 200:
                raise self._status_error("list of pictures", url, response)
            page = parse_page(response.body, self.base_url)
            known = len(pictures)
            pictures.update((one.filename, one) for one in page.items)
            after = page.next
            if after is None or len(pictures) == known:
                return list(pictures.values())

    # -- lifecycle ----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        if self._closed:
            raise StateError(f"the client of {self.base_url} is closed")
        self._keep_connections = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _request(
        self, method: str, url: URL, limits: aiohttp.ClientTimeout, *, max_size: int = MAX_RESPONSE
    ) -> HttpResponse:
        headers = None if self._token is None else await self._headers()
        self._calls += 1  # as in `_working`, whose generator would be a twentieth of a request's CPU
        try:
            return await self._http.fetch(
                method,
                url,
                limits=limits,
                max_size=max_size,
                headers=headers,
                maybe_executed=method == "POST",
            )
        except AsynccamError as error:
            self._raise_translated(error)
        finally:
            await self._end_call()

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Translate errors; close the connections after the last call, unless they are to be kept."""
        self._calls += 1
        try:
            yield
        except AsynccamError as error:
            self._raise_translated(error)
        finally:
            await self._end_call()

    async def _end_call(self) -> None:
        self._calls -= 1
        if not self._calls and not self._keep_connections:
            await finish(self._http.close_idle())

    @staticmethod
    def _raise_translated(error: AsynccamError) -> NoReturn:
        own = translated(error)
        if own is error:
            raise error
        raise own from error

    async def _headers(self) -> Mapping[str, str]:
        if self._token is None:
            return {}
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token.strip()}"}  # read from a file, it may end with a line break

    async def _capture_group(self, url: URL, subject: str) -> SnapshotResults:
        response = await self._request("POST", url, self._all_limits)
        taken = response.status in _SUCCESS
        try:
            results = parse_results(response.body, self.base_url)
        except AsynccamError:
            if taken:
                raise
            raise self._status_error(subject, url, response) from None
        if results.results:  # whatever the status is: some cameras may have a picture
            return results
        if not taken:
            raise self._status_error(subject, url, response)
        if results.error or results.get("success") is False:
            raise DeviceError(
                f"{subject}: {results.error or 'the server gives no reason'}",
                status_code=response.status,
                response_text=response.body.decode(errors="replace"),
            )
        return results

    async def _download_all(self, results: SnapshotResults, directory: Path | str) -> tuple[Picture, ...]:
        slots = asyncio.Semaphore(_MAX_DOWNLOADS)

        async def fetch(result: CameraResult) -> Picture:
            name = result.camera_name
            if not result.success:
                message = f"picture of {name!r}: {result.error or 'the server gives no reason'}"
                return Picture(name, error=DeviceError(message))
            try:
                async with slots:
                    return Picture(name, await self.download(result, directory))
            except AsynccamError as error:
                return Picture(name, error=error)

        async with TaskScope(f"pictures of {self.base_url}") as scope:
            jobs = {index: fetch(result) for index, result in enumerate(results.results)}
            pictures = await scope.gather_all(jobs, name="fetch")
        return tuple(pictures.values())

    async def _download_error(self, response: aiohttp.ClientResponse) -> AsynccamError:
        try:
            body = await response.content.readexactly(_MAX_ERROR_BODY)
        except asyncio.IncompleteReadError as error:
            body = error.partial
        read = HttpResponse(response.status, body, clean_text(response.headers.get("Location", "")))
        return self._status_error("picture", response.url, read)

    def _status_error(self, subject: str, url: URL, response: HttpResponse) -> AsynccamError:
        error = status_error(subject, str(url), response.status, response.location, response.body)
        if isinstance(error, NotFoundError) and "%2F" in url.raw_path:
            error.args = (f"{error} (existing servers do not find a name with a slash)",)
        return error


# -- check of a response: existing servers send raw frames and broken pictures too ----------------


def _offset_in_memory(data: bytes, source: str) -> int:
    """Return the offset of the picture in a response; takes up to a second for each 4 MB."""
    found = find_picture(data)
    _check_kind(found, data[:_HEAD_SIZE], source)
    return picture_offset(found, len(data), source)


def _offset_on_disk(path: Path, source: str) -> int:
    found, size = read_picture(path)
    with storage_errors("read", path), path.open("rb") as file:
        _check_kind(found, file.read(_HEAD_SIZE), source)
    return picture_offset(found, size, source)


def _check_kind(found: JpegPicture, head: bytes, source: str) -> None:
    """Raise `RemoteProtocolError` for a response that is not a JPEG at all, and say what it is."""
    if is_jpeg_picture(found):
        return
    text: str | None = head.decode(errors="replace")
    if not head:
        kind = "empty"
    elif head.lstrip().startswith(b"<"):
        kind = "a web page, not a picture"
    elif head.lstrip().startswith(b"{"):
        kind = f"JSON, not a picture: {text}"
    else:
        text = None
        kind = (
            f"not a JPEG, it begins with {head[:_SHOWN_BYTES].hex(' ')}: perhaps a raw frame, which "
            "existing servers send for a camera whose pixel format is not MJPG"
        )
    raise RemoteProtocolError(f"{source} is {kind}", status_code=200, response_text=text)
