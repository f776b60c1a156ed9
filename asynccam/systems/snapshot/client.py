"""SnapshotClient: the cameras of one Snapshot server. See docs/snapshot.md."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from asynccam.errors import AsynccamError, DamagedFileError, StateError, UsageError
from asynccam.model.credentials import TokenProvider
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.http import HttpClient, HttpResponse, limits_of
from asynccam.net.http_download import download_http
from asynccam.outside import clean_text
from asynccam.recording.pictures import MAX_PICTURE
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.snapshot.errors import (
    ConnectionError,
    DeviceError,
    NotFoundError,
    refusal,
    translated,
)
from asynccam.systems.snapshot.jpeg import begin_in_memory, begin_on_disk
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
from asynccam.systems.snapshot.urls import Places, picture_name, picture_path

MAX_ANSWER: Final = 16 * 1024 * 1024
MAX_IMAGE: Final = MAX_PICTURE
"""Bytes a picture may have."""
STALL_TIMEOUT: Final = 30.0
_FETCHES: Final = 4
_TAKEN: Final = (200, 201, 202)
_MOST_REFUSAL: Final = 64 * 1024
_NO_HEADERS: Final[Mapping[str, str]] = {}


class SnapshotClient:
    """The cameras of one Snapshot server, in the field or our own.

    Whatever goes wrong with a call is a `SnapshotClientError`, which is also the error of the same name in
    `asynccam.errors`. As a context manager it keeps connections between calls; without, it closes them
    after each, so that nothing is left behind by who never closes it. Follows docs/protocols/snapshot.md.

    Args:
        base_url: ``http://HOST:PORT``, perhaps with a path.
        session: The aiohttp session to use, which stays the caller's to close; None for an own one.
        tls: The context for ``https``, or None for one that verifies.
        token: For a server that wants one, or what provides it.
        timeout: Seconds for a question.
        capture_timeout: Seconds for a picture of one camera; servers in the field take up to 45.
        all_timeout: Seconds for pictures of several.

    Attributes:
        base_url: Without a slash at its end.

    Raises:
        AddressError: ``base_url`` is no HTTP address, or carries credentials, a query or a fragment.
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
                raise UsageError(f"a deadline is a number of seconds above 0, not {seconds}")
        self._places = Places(base_url)
        self.base_url = self._places.base
        self._http = HttpClient(session, tls=tls)
        self._token = token
        self._limits = limits_of(timeout)
        self._capture_limits = limits_of(capture_timeout)
        self._all_limits = limits_of(all_timeout)
        self._lasting = session is not None
        self._calls = 0
        self._closed = False

    @property
    def address(self) -> str:
        """The server as `Session` takes it: ``snapshot[s]://HOST:PORT[/PATH/]``."""
        return str(self._places.address)

    def address_of(self, camera_name: str) -> str:
        """A camera of the server as `Session` takes it, which is its id."""
        return str(self._places.address.with_camera(camera_name))

    # -- the maker's calls --------------------------------------------------------------------------

    async def get_cameras(self) -> list[CameraEntry]:
        """The cameras the server is configured for.

        Raises:
            SnapshotClientError: The server cannot be asked, refuses, or answers nonsense.
        """
        answer = await self._ask("GET", self._places.cameras, self._limits)
        if answer.status != 200:
            raise self._refusal("list of cameras", self._places.cameras, answer)
        return parse_cameras(answer.body, self.base_url)

    async def snapshot_camera(self, camera_name: str) -> SnapshotResult:
        """Have the server take a picture of one camera; never sent twice.

        Args:
            camera_name: As `get_cameras` told it.

        Raises:
            SnapshotClientError: No such camera, the capture failed, or the server cannot be asked.
            UsageError: A server takes the name for something else: ``all``, ``stereo`` or none.
        """
        url = self._places.capture(camera_name)
        answer = await self._ask("POST", url, self._capture_limits, maybe_executed=True)
        if answer.status not in _TAKEN:
            raise self._refusal(f"picture of {camera_name!r}", url, answer)
        return parse_result(answer.body, self.base_url)

    async def snapshot_all_cameras(self) -> SnapshotResults:
        """Have the server take a picture of every camera; never sent twice.

        A camera that fails is among the results as such.

        Raises:
            SnapshotClientError: There is no result at all.
        """
        return await self._several(self._places.all, "picture of all cameras")

    async def snapshot_stereo_cameras(self) -> SnapshotResults:
        """Have the server take a picture of every camera of the stereo pair; as `snapshot_all_cameras`."""
        return await self._several(self._places.stereo, "picture of the stereo cameras")

    def get_image_url(self, image_url_path: str) -> str:
        """The whole address of a picture.

        Args:
            image_url_path: As a result tells it.

        Raises:
            SnapshotClientError: It leads to another server.
        """
        return str(self._places.image(image_url_path))

    # -- pictures, brought home ---------------------------------------------------------------------

    async def fetch_image(self, picture: SnapshotResult | CameraResult | str) -> bytes:
        """A picture, whole, in memory, from its first byte on.

        Args:
            picture: A result, or its ``image_url_path``.

        Raises:
            SnapshotClientError: The server cannot be asked or refuses, or what it sends is no JPEG.
            DamagedFileError: What it sends is a broken JPEG; a `SnapshotClientError` too.
        """
        url = self._places.image(picture_path(picture))
        answer = await self._ask("GET", url, self._capture_limits, most=MAX_IMAGE)
        if answer.status != 200:
            raise self._refusal("picture", url, answer)
        try:
            begin = await on_disk(begin_in_memory, answer.body, str(url))
        except DamagedFileError as error:
            if answer.bounded:
                raise translated(error) from error
            # RFC 9112 6.3: without a length the body ends where the connection does.
            raise ConnectionError(f"{url} broke off before the end of the picture: {error}") from error
        return answer.body[begin:]

    async def download(
        self,
        picture: SnapshotResult | CameraResult | str,
        directory: Path | str,
        *,
        progress: Progress | None = None,
    ) -> LocalFile:
        """Bring a picture home whole, under a name made safe, never over an existing file.

        Bytes before the picture are not kept, for other programs do not look for it behind them. Size and
        digest are of the file on disk.

        Args:
            picture: A result, or its ``image_url_path``.
            directory: Where it goes; made if missing.
            progress: Called with bytes so far and the total.

        Raises:
            SnapshotClientError: The server cannot be asked or refuses, or what it sends is no JPEG.
            DamagedFileError: What it sends is a broken JPEG; ``part`` is what arrived.
            TransferError: It broke off for good; ``part`` is what arrived.
            StorageError: This computer's disk.
        """
        path = picture_path(picture)
        url = self._places.image(path)
        async with self._at_work():
            try:
                return await download_http(
                    self._http,
                    url,
                    Path(directory),
                    picture_name(picture, path),
                    headers=self._headers,
                    progress=progress,
                    stall_timeout=STALL_TIMEOUT,
                    inspect=partial(begin_on_disk, source=str(url)),
                    max_size=MAX_IMAGE,
                    make_error=self._refused,
                )
            except AsynccamError as error:
                raise translated(error) from error

    async def snapshot(
        self, camera: CameraEntry | str, directory: Path | str, *, progress: Progress | None = None
    ) -> LocalFile:
        """Take a picture of one camera and bring it home.

        Args:
            camera: As listed, or its name.
            directory: Where it goes; made if missing.
            progress: Called with bytes so far and the total.

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
        """Take a picture of every camera and bring them home; one that fails hides no other.

        Raises:
            SnapshotClientError: There is no result at all.
        """
        return await self._bring_home(await self.snapshot_all_cameras(), directory)

    async def snapshot_stereo(self, directory: Path | str) -> tuple[Picture, ...]:
        """Take a picture of every camera of the stereo pair and bring them home; as `snapshot_all`."""
        return await self._bring_home(await self.snapshot_stereo_cameras(), directory)

    async def list_snapshots(self, camera_name: str | None = None) -> list[StoredPicture]:
        """The pictures a server of our own has, newest first.

        Args:
            camera_name: Only those of one camera.

        Raises:
            NotFoundError: A server in the field, which has no such list.
            SnapshotClientError: The server cannot be asked, refuses, or answers nonsense.
        """
        pictures: dict[str, StoredPicture] = {}
        after: str | None = None
        while True:
            url = self._places.stored(camera_name, after)
            answer = await self._ask("GET", url, self._limits)
            if answer.status != 200:
                raise self._refusal("list of pictures", url, answer)
            page = parse_page(answer.body, self.base_url)
            known = len(pictures)
            pictures.update((one.filename, one) for one in page.items)
            after = page.next
            if after is None or len(pictures) == known:
                return list(pictures.values())

    # -- the end ------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close the connections; harmless when called twice."""
        self._closed = True
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        if self._closed:
            raise StateError(f"the client of {self.base_url} is closed")
        self._lasting = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- inside -------------------------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        url: URL,
        limits: aiohttp.ClientTimeout,
        *,
        maybe_executed: bool = False,
        most: int = MAX_ANSWER,
    ) -> HttpResponse:
        headers = None if self._token is None else await self._headers()
        self._calls += 1
        try:
            return await self._http.fetch(
                method, url, limits=limits, max_size=most, headers=headers, maybe_executed=maybe_executed
            )
        except AsynccamError as error:
            raise translated(error) from error
        finally:
            self._calls -= 1
            if not self._lasting:
                await self._rest()

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if not self._lasting:
                await self._rest()

    async def _rest(self) -> None:
        """After the last call of a client that is no open context manager: keep nothing open."""
        if not self._calls:
            await finish(self._http.close_idle())

    async def _headers(self) -> Mapping[str, str]:
        if self._token is None:
            return _NO_HEADERS
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token.strip()}"}  # files of tokens end with a line's end

    async def _several(self, url: URL, what: str) -> SnapshotResults:
        answer = await self._ask("POST", url, self._all_limits, maybe_executed=True)
        taken = answer.status in _TAKEN
        try:
            results = parse_results(answer.body, self.base_url)
        except AsynccamError:
            if taken:
                raise
            raise self._refusal(what, url, answer) from None
        if results.results:  # whatever the status: some cameras may have a picture
            return results
        if not taken:
            raise self._refusal(what, url, answer)
        if results.error or results.get("success") is False:
            raise DeviceError(
                f"{what}: {results.error or 'the server gives no reason'}",
                status_code=answer.status,
                response_text=answer.body.decode(errors="replace"),
            )
        return results

    async def _bring_home(self, results: SnapshotResults, directory: Path | str) -> tuple[Picture, ...]:
        slots = asyncio.Semaphore(_FETCHES)

        async def fetch(result: CameraResult) -> Picture:
            name = result.camera_name
            if not result.success:
                words = f"picture of {name!r}: {result.error or 'the server gives no reason'}"
                return Picture(name, error=DeviceError(words))
            try:
                async with slots:
                    return Picture(name, await self.download(result, directory))
            except AsynccamError as error:
                return Picture(name, error=error)

        async with TaskScope(f"pictures of {self.base_url}") as scope:
            jobs = {number: fetch(result) for number, result in enumerate(results.results)}
            fetched = await scope.gather(jobs, name="fetch")
        pictures = []
        for one in fetched.values():
            if isinstance(one, Exception):
                raise one
            pictures.append(one)
        return tuple(pictures)

    async def _refused(self, response: aiohttp.ClientResponse) -> AsynccamError:
        try:
            body = await response.content.readexactly(_MOST_REFUSAL)
        except asyncio.IncompleteReadError as error:
            body = error.partial
        answer = HttpResponse(response.status, body, clean_text(response.headers.get("Location", "")))
        return self._refusal("picture", response.url, answer)

    def _refusal(self, what: str, url: URL, answer: HttpResponse) -> AsynccamError:
        error = refusal(what, str(url), answer.status, answer.location, answer.body)
        if isinstance(error, NotFoundError) and "%2F" in url.raw_path:
            error.args = (f"{error} (servers in the field find no name with a slash in it)",)
        return error
