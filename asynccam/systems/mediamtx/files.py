"""Files on the service: lists and deletions by JSON-RPC, contents by HTTP. See docs/protocols/mediamtx.md."""

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from yarl import URL

from asynccam.errors import AsynccamError, UsageError
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.http import HttpClient
from asynccam.net.http_download import download_http
from asynccam.recording.pictures import MAX_PICTURE, inspect_picture
from asynccam.systems.mediamtx.asking import Asking, given
from asynccam.systems.mediamtx.auth import INTERNAL_ERROR, translated
from asynccam.systems.mediamtx.errors import AuthenticationError, CameraServiceError, PermissionDeniedError
from asynccam.systems.mediamtx.models import FileInfo, FileList, Report
from asynccam.systems.mediamtx.settings import Credentials, Endpoint

_LOG = logging.getLogger(__name__)

RECORDINGS: Final = "recordings"
SNAPSHOTS: Final = "snapshots"
_JPEGS: Final = (".jpg", ".jpeg")
PAGE: Final = 100
"""Files asked for at a time when iterating."""


class FileMethods(Asking):
    """The methods about files; part of `CameraClient`.

    They raise what `CameraMethods` raise. One released service of generation 1 answers every
    question about files with an internal error; then lists hold what this client was told of
    recordings since it was made, and say so by ``complete`` being False.
    """

    endpoint: Endpoint
    _credentials: Credentials
    _stall_timeout: float
    _listing_is_broken = False

    @abstractmethod
    async def _http_client(self) -> HttpClient:
        """What files are fetched by."""

    async def list_recordings(self, *, limit: int | None = None, offset: int | None = None) -> FileList:
        """One page of the recordings.

        Args:
            limit: Files on the page; at most 1000 in generation 2.
            offset: Files before it.
        """
        return await self._list("list_recordings", limit, offset, lambda: list(self._roster.files.values()))

    async def list_snapshots(self, *, limit: int | None = None, offset: int | None = None) -> FileList:
        """One page of the pictures; see `list_recordings`."""
        return await self._list("list_snapshots", limit, offset, list)

    def iter_recordings(self, *, page: int = PAGE) -> AsyncIterator[FileInfo]:
        """All recordings, fetched ``page`` at a time; each once, even while new ones appear."""
        return _all_pages(self.list_recordings, page)

    def iter_snapshots(self, *, page: int = PAGE) -> AsyncIterator[FileInfo]:
        """All pictures, fetched ``page`` at a time; each once, even while new ones appear."""
        return _all_pages(self.list_snapshots, page)

    async def get_recording_info(self, filename: str) -> FileInfo:
        """One recording."""
        try:
            return await self._read(FileInfo, "get_recording_info", {"filename": filename})
        except CameraServiceError as error:
            if not self._is_the_broken_release(error) or filename not in self._roster.files:
                raise
            return self._roster.files[filename]

    async def get_snapshot_info(self, filename: str) -> FileInfo:
        """One picture."""
        return await self._read(FileInfo, "get_snapshot_info", {"filename": filename})

    async def delete_recording(self, filename: str) -> Report:
        """Delete a recording on the service; never sent twice by the client."""
        report = await self._change(Report, "delete_recording", {"filename": filename})
        self._roster.files.pop(filename, None)
        return report

    async def delete_snapshot(self, filename: str) -> Report:
        """Delete a picture on the service; never sent twice by the client."""
        return await self._change(Report, "delete_snapshot", {"filename": filename})

    async def download_recording(
        self, file: FileInfo | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring a recording home whole, going on by ``Range`` if the connection breaks.

        Args:
            file: As listed, or its name.
            directory: Where it goes; made if missing. No existing file is replaced.
            progress: Called with bytes so far and the total.

        Raises:
            TransferError: It broke off for good; ``part`` is what arrived.
            CameraNotFoundError: No such file.
            AuthenticationError: The file server refuses the credentials.
            ConnectionError, TimeoutError: The file server cannot be reached.
            StorageError: This computer's disk.
        """
        return await self._download(RECORDINGS, file, directory, progress)

    async def download_snapshot(
        self, file: FileInfo | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring a picture home whole; see `download_recording`.

        A JPEG, as its name says, is read before it gets its name here. Bytes that precede it are not kept.

        Raises:
            DamagedFileError: The JPEG is broken; ``part`` is what arrived.
            RemoteProtocolError: A file named ``.jpg`` or ``.jpeg`` is no JPEG.
        """
        name = file if isinstance(file, str) else file.filename
        jpeg = PurePosixPath(name).suffix.lower() in _JPEGS
        return await self._download(SNAPSHOTS, file, directory, progress, jpeg=jpeg)

    # -- inside -----------------------------------------------------------------------------------

    async def _list(
        self,
        method: str,
        limit: int | None,
        offset: int | None,
        known: Callable[[], list[FileInfo]],
    ) -> FileList:
        try:
            return await self._read(FileList, method, given(limit=limit, offset=offset))
        except CameraServiceError as error:
            if not self._is_the_broken_release(error):
                raise
        files = known()[::-1]  # newest first, as services sort them
        first = offset or 0
        return FileList(
            files=files[first : None if limit is None else first + limit],
            total=len(files),
            limit=limit,
            offset=first,
            complete=False,
        )

    def _is_the_broken_release(self, error: CameraServiceError) -> bool:
        facts = self._facts
        broken = error.code == INTERNAL_ERROR and facts.generation == 1 and error.method not in facts.working
        if broken and not self._listing_is_broken:
            self._listing_is_broken = True
            _LOG.warning(
                "%s cannot tell its files (%s); only what it told of recordings is known",
                self.endpoint.address,
                error,
            )
        return broken

    async def _download(
        self,
        folder: str,
        file: FileInfo | str,
        directory: Path,
        progress: Progress | None,
        *,
        jpeg: bool = False,
    ) -> LocalFile:
        used = self._credentials.token
        try:
            return await self._download_once(folder, file, directory, progress, jpeg=jpeg)
        except PermissionDeniedError:
            raise
        except AuthenticationError:
            # Another download may have turned to the second secret meanwhile.
            if self._credentials.token == used and not self._credentials.turn():
                raise
        return await self._download_once(folder, file, directory, progress, jpeg=jpeg)

    async def _download_once(
        self,
        folder: str,
        file: FileInfo | str,
        directory: Path,
        progress: Progress | None,
        *,
        jpeg: bool,
    ) -> LocalFile:
        name = file if isinstance(file, str) else file.filename
        try:
            return await download_http(
                await self._http_client(),
                self._url_of(folder, file),
                directory,
                name,
                headers=self._credentials.headers,
                progress=progress,
                stall_timeout=self._stall_timeout,
                inspect=partial(inspect_picture, source=name) if jpeg else None,
                most=MAX_PICTURE if jpeg else None,
            )
        except AsynccamError as error:
            problem = translated(error, 2, None)
            if problem is error:
                raise
            raise problem from error

    def _url_of(self, folder: str, file: FileInfo | str) -> URL:
        """Where a file is; the service's own word for it counts only if the token stays where it belongs."""
        own = URL(
            self.endpoint.file_url(folder, file if isinstance(file, str) else file.filename), encoded=True
        )
        told = None if isinstance(file, str) else file.download_url
        try:
            there = own.join(URL(told)) if told else own
        except ValueError:
            return own
        same = (there.scheme, there.host) == (own.scheme, own.host)
        return there if same else own


async def _all_pages(list_page: Callable[..., Awaitable[FileList]], page: int) -> AsyncIterator[FileInfo]:
    if page < 1:
        raise UsageError(f"a page of {page} files cannot be")
    seen: set[str] = set()
    offset = 0
    while True:
        answer = await list_page(limit=page, offset=offset)
        # A file that appeared meanwhile pushes others to the next page, where they come again.
        fresh = [file for file in answer.files if file.filename and file.filename not in seen]
        for file in fresh:
            seen.add(file.filename)
            yield file
        offset += len(answer.files)
        if not answer.files or (answer.total is not None and offset >= answer.total):
            return
        if not fresh and answer.total is None:  # it does not heed the offset
            return
