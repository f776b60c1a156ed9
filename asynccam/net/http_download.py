"""Bring a file home over HTTP, going on where a broken connection left off.

The body goes into a `PartFile`, so whatever arrived survives every failure, and the file appears
under its name only when it is whole. See docs/protocols/mediamtx.md, "Files".
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.http import HttpClient, bare, status_error
from asynccam.net.transfer.partfile import PartFile
from asynccam.runtime.disk import on_disk
from asynccam.runtime.retry import Backoff
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock

_LOG = logging.getLogger(__name__)
_BUFFER: Final = 1024 * 1024
_PROGRESS_INTERVAL: Final = 0.1
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_AGAIN: Final = Backoff(initial=0.5, maximum=10.0, immediate=True)

Headers = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]
"""Headers, or what is asked for them before each request, because credentials expire."""

Inspect = Callable[[Path], int]
"""Reads a file that came, in a thread: the offset at which its content begins, 0 unless bytes precede it.

It raises `DamagedFileError` for a file that is broken, which is kept as a part, and
`RemoteProtocolError` for what is no such file at all, which is removed.
"""

Refused = Callable[[aiohttp.ClientResponse], Awaitable[AsynccamError]]
"""Makes the error of an answer that is no file."""

TRIES: Final = 6
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
    digest: bool = True,
    inspect: Inspect | None = None,
    most: int | None = None,
    refused: Refused | None = None,
    backoff: Backoff = _AGAIN,
    clock: Clock = SYSTEM_CLOCK,
) -> LocalFile:
    """GET a file whole, under a name made safe, never over an existing file.

    When the connection breaks in the middle, the rest is asked for with ``Range``, as long as the
    server shows by ``ETag``, ``Last-Modified`` and length that it still has the same file. A server that
    tells no length and heeds no ``Range`` sends it anew from the beginning. Memory does not grow with the
    file.

    Args:
        client: Sends the requests.
        url: Sent as it is when it is a `yarl.URL`.
        directory: Where the file goes; made if missing.
        name: The server's name for it.
        headers: Sent with every request, credentials for example; or asked for before each.
        resume: Whether to go on after a broken connection.
        progress: Called at the start, at the end, and at most ten times a second between.
        stall_timeout: Seconds without a single byte after which a connection is given up; there is no
            limit for the whole.
        digest: Compute SHA-256 beside the transfer.
        inspect: Reads the file before it gets its name. What precedes its content is removed; size and
            digest are those of what is left. Where only a closed connection tells the end, a broken file
            counts as a broken connection.
        most: Bytes the file may have, or None for any number.
        refused: Makes the error of an answer that is no file; without, its status alone says what it means.
        backoff: Waits between tries that bring nothing.
        clock: Time, for tests.

    Raises:
        TransferError: It broke off for good, or the file changed meanwhile; ``part`` is what arrived.
        DamagedFileError: ``inspect`` says so; ``part`` is what arrived.
        NotFoundError: No such file.
        AuthenticationError, PermissionDeniedError, BusyError, DeviceError: The server refuses.
        ConnectionError, TimeoutError: It cannot be reached.
        RemoteProtocolError: It answers nonsense, or more than ``most`` bytes.
        InsufficientSpaceError, StorageError: This computer's disk.
    """
    transfer = _Transfer(client, url, directory, name, headers or {}, progress, stall_timeout, clock)
    transfer.inspect, transfer.most, transfer.refused = inspect, most, refused
    try:
        delays = backoff.delays()
        tries = most = 0
        while True:
            try:
                await transfer.go_on(digest)
                break
            except (ConnectionError, TimeoutError, BusyError) as error:
                # More than ever: where each try begins anew, a longer one after a shorter is no progress.
                fresh = transfer.received > most
                if fresh:
                    tries, delays, most = 0, backoff.delays(), transfer.received
                tries += 1
                stalled = isinstance(error, TimeoutError) and not fresh
                if transfer.part is None or not resume or stalled or tries >= TRIES:
                    raise
                _LOG.info("%s broke off at byte %d: %s", bare(url), transfer.received, error)
            await clock.sleep(next(delays))
        assert transfer.part is not None
        await transfer.settle_begin()
        return await transfer.part.commit(name)
    except BaseException as error:
        part = transfer.part
        if part is None:
            raise
        if transfer.useless:
            await part.discard()
        kept = await part.keep()
        if isinstance(error, DamagedFileError):
            error.part, error.received = kept, part.received
            error.args = (f"{error}; what came is kept as {kept}",)
        if not isinstance(error, (ConnectionError, TimeoutError, BusyError, _ChangedError)):
            raise
        raise TransferError(
            f"{name} from {bare(url)} stopped after {part.received} of {_known(part.size)} bytes: {error}",
            part=kept,
            received=part.received,
            expected=part.size,
        ) from error


def _known(size: int | None) -> str:
    return "an unknown number of" if size is None else str(size)


class _ChangedError(AsynccamError):
    """What the server has now is not what the part began with."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """How a server tells one state of a file from another."""

    etag: str
    modified: str

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> "_Identity":
        etag = response.headers.get("ETag", "")
        return cls(
            "" if etag.startswith("W/") else etag,  # a weak one says nothing about bytes
            response.headers.get("Last-Modified", ""),
        )

    @property
    def validator(self) -> str:
        """For ``If-Range``."""
        return self.etag or self.modified

    def differs_from(self, other: "_Identity") -> bool:
        """Whether a server that told both told of two different files; silence proves nothing."""
        return any(a and b and a != b for a, b in ((self.etag, other.etag), (self.modified, other.modified)))


class _Transfer:
    """One file on its way, over as many requests as it takes."""

    def __init__(
        self,
        client: HttpClient,
        url: str | URL,
        directory: Path,
        name: str,
        headers: Headers,
        progress: Progress | None,
        stall_timeout: float,
        clock: Clock,
    ) -> None:
        self.part: PartFile | None = None
        self.inspect: Inspect | None = None
        self.most: int | None = None
        self.refused: Refused | None = None
        self.useless = False
        self._begins_at: int | None = None
        self._client, self._url, self._directory, self._name = client, url, directory, name
        self._headers = headers
        self._progress = progress
        self._told = -_PROGRESS_INTERVAL
        self._stall_timeout = stall_timeout
        self._clock = clock
        self._identity = _Identity("", "")

    @property
    def received(self) -> int:
        """Bytes in the part."""
        return 0 if self.part is None else self.part.received

    async def go_on(self, digest: bool) -> None:
        """One request, from where we are to the end of the file."""
        start = self.received
        if self.part is not None and start == self.part.size:
            return
        given = await self._headers() if callable(self._headers) else self._headers
        # Sizes and ranges are of the file itself only when nothing is compressed on the way.
        headers = {**given, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._identity.validator:
                headers["If-Range"] = self._identity.validator
        async with self._client.request(
            "GET",
            self._url,
            headers=headers,
            timeout=None,
            quiet_timeout=self._stall_timeout,
            read_bufsize=_BUFFER,
        ) as response:
            if self.refused is not None and response.status not in ((200, 206, 416) if start else (200,)):
                raise await self.refused(response)
            # Leaving this block without the whole body closes the connection: no body is waited for.
            if start and self._starts_over(response):
                assert self.part is not None
                await self.part.discard()
                self.part, start = None, 0
            skip = await self._begin(response, digest) if not start else self._rejoin(response, start)
            if skip is not None:
                await self._take(response, skip)

    def _starts_over(self, response: aiohttp.ClientResponse) -> bool:
        """Whether it is sent from the beginning by a server that cannot do otherwise nor tell its length."""
        assert self.part is not None
        unknown = self.part.size is None and _length(response) is None
        changed = self._identity.differs_from(_Identity.of(response))
        return response.status == 200 and unknown and not changed

    async def _begin(self, response: aiohttp.ClientResponse, digest: bool) -> int:
        if response.status != 200:
            raise status_error(response, self._name)
        self._identity = _Identity.of(response)
        if self.part is None:
            self.part = await PartFile.open(
                self._directory, self._name, size=_length(response), digest=digest
            )
        elif self.part.size != _length(response):
            raise _ChangedError("the file changed on the server meanwhile")
        self._begins_at = None
        self._check_size(self.part.size or 0)
        self._tell(first_or_last=True)
        return 0

    def _rejoin(self, response: aiohttp.ClientResponse, start: int) -> int | None:
        """Bytes to skip before the first new one, or None if there are no more."""
        assert self.part is not None
        if response.status == 416:
            # The file ends here after all, if it had no announced size; some servers promise a body
            # with this answer and never send it, so it is not waited for.
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if self.part.size is None and total == str(start):
                return None
            raise _ChangedError("the file is shorter than it was")
        if response.status not in (200, 206):
            raise status_error(response, self._name)
        if self._identity.differs_from(_Identity.of(response)):
            raise _ChangedError("the file changed on the server meanwhile")
        if response.status == 200:  # it ignores Range, and begins anew
            if _length(response) != self.part.size or self.part.size is None:
                raise _ChangedError("the server sends it from the beginning, and of another length")
            return start
        text = response.headers.get("Content-Range", "")
        found = _CONTENT_RANGE.fullmatch(text.strip())
        if found is None or int(found[1]) != start:
            raise RemoteProtocolError(
                f"{bare(self._url)} was asked for bytes from {start}, and sends {text!r}"
            )
        if found[3] != "*" and self.part.size not in (None, int(found[3])):
            raise _ChangedError(f"the file has {found[3]} bytes now")
        return 0

    async def _take(self, response: aiohttp.ClientResponse, skip: int) -> None:
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
            raise ConnectionError(f"{bare(self._url)} ended the file early")
        # RFC 9112 6.3: without a length or chunks the body ends where the connection does.
        if part.size is None and "Transfer-Encoding" not in response.headers:
            try:
                await self._inspect(part)
            except DamagedFileError as error:
                words = f"{bare(self._url)} broke off before the end of the file: {error}"
                raise ConnectionError(words) from error
        self._tell(first_or_last=True)

    async def _write(self, part: PartFile, data: bytes) -> None:
        self._check_size(part.received + len(data))
        await part.write(data)
        self._tell()

    async def settle_begin(self) -> None:
        """Read the whole file, and remove what precedes its content."""
        assert self.part is not None
        await self._inspect(self.part)
        if self._begins_at:
            await self.part.drop_head(self._begins_at)

    async def _inspect(self, part: PartFile) -> None:
        if self.inspect is None or self._begins_at is not None:
            return
        try:
            self._begins_at = await on_disk(self.inspect, part.path)
        except RemoteProtocolError as error:
            self.useless = not isinstance(error, DamagedFileError)
            raise

    def _check_size(self, size: int) -> None:
        if self.most is not None and size > self.most:
            self.useless = True
            raise RemoteProtocolError(f"{bare(self._url)} has more than {self.most} bytes")

    def _tell(self, *, first_or_last: bool = False) -> None:
        if self._progress is None or self.part is None:
            return
        now = self._clock.monotonic()
        if first_or_last or now - self._told >= _PROGRESS_INTERVAL:
            self._told = now
            self._progress(self.part.received, self.part.size)


def _length(response: aiohttp.ClientResponse) -> int | None:
    """Bytes of the file, if announced; a compressed body's length is not the file's."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    return response.content_length if encoding == "identity" else None
