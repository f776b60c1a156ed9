"""Download a file over HTTP, and resume where a broken connection left off.

The body goes into a `PartFile`, so that what was received survives every failure, and the file appears
under its name only when it is complete. See docs/protocols/mediamtx.md, "Files".
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from asynccam.errors import (
    AsynccamError,
    BusyError,
    ConnectionError,
    DamagedFileError,
    RemoteProtocolError,
    TimeoutError,
    TransferError,
)
from asynccam.model.digest import SHA256, DigestChoice, checked_digest
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.http import HttpClient, bare_url, status_error
from asynccam.net.transfer.partfile import PartFile
from asynccam.runtime.disk import on_disk
from asynccam.runtime.retry import Backoff, Retrier
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock

_LOG = logging.getLogger(__name__)
_BUFFER: Final = 1024 * 1024
_PROGRESS_INTERVAL: Final = 0.1
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DEFAULT_BACKOFF: Final = Backoff(initial=0.5, maximum=10.0, immediate=True)

Headers = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]
"""Headers of a request, or what returns them before each request."""

Inspect = Callable[[Path], int]
"""Reads a file in a thread, before it gets its name, and returns at which byte its content begins.

It raises `DamagedFileError` for a file that is broken, which is kept as a part, and
`RemoteProtocolError` for what is not such a file at all, which is removed.
"""

MakeError = Callable[[aiohttp.ClientResponse], Awaitable[AsynccamError]]
"""Makes the error of a response that is not the file."""

MAX_TRIES: Final = 6
"""Tries in a row that may bring no new byte."""


async def download_http(
    client: HttpClient,
    url: str | URL,
    directory: Path,
    name: str,
    *,
    headers: Headers | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    stall_timeout: float = 600.0,
    digest: DigestChoice = SHA256,
    inspect: Inspect | None = None,
    max_size: int | None = None,
    make_error: MakeError | None = None,
    backoff: Backoff = _DEFAULT_BACKOFF,
    clock: Clock = SYSTEM_CLOCK,
) -> LocalFile:
    """Download a file under a name made safe, never over an existing file.

    When the connection breaks, the rest is requested with ``Range``, as long as ``ETag``, ``Last-Modified``
    and length show that the server still has the same file. A server that gives no length and ignores
    ``Range`` sends the file again from the beginning. Memory does not grow with the file.

    A `yarl.URL` is sent as it is, ``headers`` with every request. The directory is created if missing. A file
    may have ``max_size`` bytes, or any number if that is None. ``progress`` is called at the start,
    at the end, and at most ten times a second between. A connection is given up after ``stall_timeout``
    seconds without a single byte; there is no limit for the whole. ``digest`` is computed during the
    transfer. ``inspect`` reads the file before it gets its name. What precedes its content is removed; size
    and digest are those of the rest. Where only the end of the connection ends the file, a broken file counts
    as a broken connection. ``make_error`` makes the error of a refusal; by default its status alone decides.
    ``backoff`` gives the waits between tries that bring no new byte. Without ``resume`` a broken connection
    is not followed by another.

    Raises:
        TransferError: It broke off for good, or the file changed meanwhile; ``part`` is what was received.
        DamagedFileError: ``inspect`` says so; ``part`` is what was received.
        NotFoundError: There is no such file.
        AuthenticationError, PermissionDeniedError, BusyError, DeviceError: The server refuses.
        ConnectionError, TimeoutError: The server cannot be reached.
        RemoteProtocolError: The response is invalid, or has more than ``max_size`` bytes.
        InsufficientSpaceError, StorageError: The disk refuses.
        UsageError: The package that computes the digest is not installed.
    """
    checked_digest(digest)  # before anything is requested
    download = _Download(
        client,
        url,
        directory,
        name,
        headers or {},
        progress,
        stall_timeout,
        clock,
        inspect,
        max_size,
        make_error,
    )
    try:
        await _receive(download, digest, Retrier(backoff, clock=clock), resume=resume)
        assert download.part is not None
        await download.remove_preamble()
        return await download.part.commit(name)
    except BaseException as error:
        part = download.part
        if part is None:
            raise
        if download.useless:
            await part.discard()
        kept = await part.keep()
        if isinstance(error, DamagedFileError):
            error.part, error.received = kept, part.received
            error.args = (f"{error}; what was received is kept as {kept}",)
        if not isinstance(error, (ConnectionError, TimeoutError, BusyError, _ChangedError)):
            raise
        expected = "an unknown number of" if part.size is None else part.size
        text = f"{name} from {bare_url(url)} stopped after {part.received} of {expected} bytes: {error}"
        raise TransferError(text, part=kept, received=part.received, expected=part.size) from error


async def _receive(download: "_Download", digest: DigestChoice, retrier: Retrier, *, resume: bool) -> None:
    """Send requests until the file is complete, or `MAX_TRIES` of them brought no new byte."""
    most = 0
    while True:
        try:
            await download.request(digest)
        except (ConnectionError, TimeoutError, BusyError) as error:
            # More than ever: where each try begins anew, a longer one after a shorter is no progress.
            progressed = download.received > most
            if progressed:
                most = download.received
                retrier.reset()
            stalled = isinstance(error, TimeoutError) and not progressed
            exhausted = retrier.failures + 1 >= MAX_TRIES
            if download.part is None or not resume or stalled or exhausted:
                raise
            _LOG.info("%s broke off at byte %d: %s", bare_url(download.url), download.received, error)
        else:
            return
        await retrier.wait_after_failure()


class _ChangedError(AsynccamError):
    """The server's file is not the one that the part began with."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """Validators by which a server tells one state of a file from another (RFC 9110 8.8)."""

    etag: str
    modified: str

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> "_Identity":
        etag = response.headers.get("ETag", "")
        return cls(
            "" if etag.startswith("W/") else etag,  # RFC 9110 8.8.1: a weak one says nothing about bytes
            response.headers.get("Last-Modified", ""),
        )

    @property
    def validator(self) -> str:
        """Value of ``If-Range``, or ``""``."""
        return self.etag or self.modified

    def differs_from(self, other: "_Identity") -> bool:
        """Return whether the two are of different files; a missing validator proves nothing."""
        return any(a and b and a != b for a, b in ((self.etag, other.etag), (self.modified, other.modified)))


@dataclass(slots=True, eq=False)
class _Download:
    """One file being downloaded, over as many requests as it takes."""

    client: HttpClient
    url: str | URL
    directory: Path
    name: str
    headers: Headers
    progress: Progress | None
    stall_timeout: float
    clock: Clock
    inspect: Inspect | None
    max_size: int | None
    make_error: MakeError | None
    part: PartFile | None = None
    useless: bool = False  # whether the part is not worth keeping
    _content_start: int | None = None
    _reported_at: float = -_PROGRESS_INTERVAL
    _identity: _Identity = field(default_factory=lambda: _Identity("", ""))

    @property
    def received(self) -> int:
        """Bytes in the part."""
        return 0 if self.part is None else self.part.received

    async def request(self, digest: DigestChoice) -> None:
        """Request the file from the first byte that is missing to its end."""
        start = self.received
        if self.part is not None and start == self.part.size:
            return
        headers = await self.headers() if callable(self.headers) else self.headers
        # Sizes and ranges are those of the file only when nothing is compressed on the way.
        headers = {**headers, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._identity.validator:
                headers["If-Range"] = self._identity.validator
        async with self.client.request(
            "GET",
            self.url,
            headers=headers,
            timeout=None,
            quiet_timeout=self.stall_timeout,
            read_bufsize=_BUFFER,
        ) as response:
            if self.make_error is not None and response.status not in ((200, 206, 416) if start else (200,)):
                raise await self.make_error(response)
            # Leaving this block early closes the connection: the rest of the body is not waited for.
            if start and self._must_restart(response):
                assert self.part is not None
                await self.part.discard()
                self.part, start = None, 0
            skip = await self._begin(response, digest) if not start else self._resume(response, start)
            if skip is not None:
                await self._read_body(response, skip)

    def _must_restart(self, response: aiohttp.ClientResponse) -> bool:
        """Return whether the server ignores ``Range`` and gives no length, so that the file begins anew."""
        assert self.part is not None
        unknown = self.part.size is None and _length(response) is None
        changed = self._identity.differs_from(_Identity.of(response))
        return response.status == 200 and unknown and not changed

    async def _begin(self, response: aiohttp.ClientResponse, digest: DigestChoice) -> int:
        if response.status != 200:
            raise status_error(response, self.name)
        self._identity = _Identity.of(response)
        if self.part is None:
            self.part = await PartFile.open(self.directory, self.name, size=_length(response), digest=digest)
        elif self.part.size != _length(response):
            raise _ChangedError("the file changed on the server meanwhile")
        self._content_start = None
        self._check_size(self.part.size or 0)
        self._report(first_or_last=True)
        return 0

    def _resume(self, response: aiohttp.ClientResponse, start: int) -> int | None:
        """Return the bytes to skip before the first new one, or None if the file is complete."""
        assert self.part is not None
        if response.status == 416:
            # RFC 9110 15.5.17: nothing is left from here on, which a file without an announced size may find.
            # Some servers promise a body with this status and never send it, so it is not waited for.
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if self.part.size is None and total == str(start):
                return None
            raise _ChangedError("the file is shorter than it was")
        if response.status not in (200, 206):
            raise status_error(response, self.name)
        if self._identity.differs_from(_Identity.of(response)):
            raise _ChangedError("the file changed on the server meanwhile")
        if response.status == 200:  # RFC 9110 14.2: a server may ignore Range
            if _length(response) != self.part.size or self.part.size is None:
                raise _ChangedError("the server sends it from the beginning, and of another length")
            return start
        text = response.headers.get("Content-Range", "")
        found = _CONTENT_RANGE.fullmatch(text.strip())
        if found is None or int(found[1]) != start:
            raise RemoteProtocolError(
                f"{bare_url(self.url)} was asked for bytes from {start}, and sends {text!r}"
            )
        if found[3] != "*" and self.part.size not in (None, int(found[3])):
            raise _ChangedError(f"the file has {found[3]} bytes now")
        return 0

    async def _read_body(self, response: aiohttp.ClientResponse, skip: int) -> None:
        part = self.part
        assert part is not None
        while data := await response.content.readany():
            if skip:
                cut = min(skip, len(data))
                skip -= cut
                data = data[cut:]
            if data:
                await self._write(part, data)
        if part.size is not None and part.received < part.size:
            raise ConnectionError(f"{bare_url(self.url)} ended the file early")
        # RFC 9112 6.3: without a length or chunks the body ends where the connection does.
        if part.size is None and "Transfer-Encoding" not in response.headers:
            try:
                await self._inspect(part)
            except DamagedFileError as error:
                words = f"{bare_url(self.url)} broke off before the end of the file: {error}"
                raise ConnectionError(words) from error
        self._report(first_or_last=True)

    async def _write(self, part: PartFile, data: bytes) -> None:
        self._check_size(part.received + len(data))
        await part.write(data)
        self._report()

    async def remove_preamble(self) -> None:
        """Inspect the file, and remove what precedes its content."""
        assert self.part is not None
        await self._inspect(self.part)
        if self._content_start:
            await self.part.drop_head(self._content_start)

    async def _inspect(self, part: PartFile) -> None:
        if self.inspect is None or self._content_start is not None:
            return
        try:
            self._content_start = await on_disk(self.inspect, part.path)
        except RemoteProtocolError as error:
            self.useless = not isinstance(error, DamagedFileError)
            raise

    def _check_size(self, size: int) -> None:
        if self.max_size is not None and size > self.max_size:
            self.useless = True
            raise RemoteProtocolError(f"{bare_url(self.url)} has more than {self.max_size} bytes")

    def _report(self, *, first_or_last: bool = False) -> None:
        if self.progress is None or self.part is None:
            return
        now = self.clock.monotonic()
        if first_or_last or now - self._reported_at >= _PROGRESS_INTERVAL:
            self._reported_at = now
            self.progress(self.part.received, self.part.size)


def _length(response: aiohttp.ClientResponse) -> int | None:
    """Return the size of the file, if announced; a compressed body's length is not the file's."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    return response.content_length if encoding == "identity" else None
