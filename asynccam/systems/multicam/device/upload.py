"""Uploads of recordings to the cloud: a queue, one worker, progress in the device's status.

See docs/protocols/multicam.md, UPLOAD_TO_CLOUD. Credentials are kept in memory only, and appear in no
log and no error text.
"""

import asyncio
import builtins
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from asynccam.errors import (
    AsynccamError,
    ConnectionError,
    DeviceError,
    PermissionDeniedError,
    RetryableError,
    StorageError,
    TimeoutError,
    UsageError,
)
from asynccam.model.address import host_and_port
from asynccam.outside import clean_text
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import Clock
from asynccam.systems.multicam.device.s3 import AwsCredentials, object_url, sign
from asynccam.systems.multicam.device.storage import OpenFile, Storage, StoredRecording
from asynccam.systems.multicam.models import CommandMessage, UploadItem, UploadStatus

_LOG = logging.getLogger(__name__)
ATTEMPTS: Final = 6
"""Tries for each file."""
RETRIES: Final = Backoff(initial=2.0, maximum=120.0)
"""Waits between tries."""
STALL_TIMEOUT: Final = 60.0
"""Seconds without a byte read by the server, or without its response."""
_CHUNK: Final = 256 * 1024
_CONNECT_TIMEOUT: Final = 30.0
_MAX_FAILED: Final = 100
_RETRYABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may be temporary."""


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Percent-encoded URL for an HTTP PUT, never shown; ``credentials`` is None for a presigned URL."""

    url: str = field(repr=False)
    credentials: AwsCredentials | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Name of the server, which is not a secret."""
        return urlsplit(self.url).hostname or ""

    @classmethod
    def of(cls, command: CommandMessage, *, s3_endpoint: str | None) -> "UploadTarget":
        """Return the target of an UPLOAD_TO_CLOUD; ``s3_endpoint`` replaces Amazon's server.

        Raises:
            UsageError: The command has neither a valid URL nor a bucket with a key and credentials.
        """
        if command.uploadUrl:
            if not _is_http(command.uploadUrl):
                raise UsageError("uploadUrl is not an http or https URL")
            return cls(command.uploadUrl)
        needed = {
            "s3Bucket": command.s3Bucket,
            "s3Key": command.s3Key,
            "awsAccessKeyId": command.awsAccessKeyId,
            "awsSecretAccessKey": command.awsSecretAccessKey,
            "awsRegion": command.awsRegion,
        }
        bucket, key, access_key_id, secret, region = (value or "" for value in needed.values())
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise UsageError(f"no uploadUrl, and {', '.join(missing)} missing")
        credentials = AwsCredentials(access_key_id, secret, command.awsSessionToken or "", region)
        url = object_url(bucket, key, region, endpoint=s3_endpoint)
        if not _is_http(url):
            raise UsageError("s3Bucket and awsRegion do not make a valid URL")
        return cls(url, credentials)


def _is_http(url: str) -> bool:
    """Return whether a URL can be used; one with half an IPv6 address, or port 99999, cannot."""
    try:
        parts = URL(url, encoded=True)
        return parts.scheme in ("http", "https") and bool(parts.host) and urlsplit(url).port != 0
    except ValueError:
        return False


class UploadHosts:
    """Hosts that uploads are allowed to; otherwise any client could have the device upload anywhere.

    ``allowed`` holds ``HOST`` for all its ports, or ``HOST:PORT``; ``s3_endpoint`` is allowed too. Raises
    `UsageError` if one is not a host.
    """

    def __init__(self, allowed: Iterable[str], *, s3_endpoint: str | None = None) -> None:
        hosts = (allowed,) if isinstance(allowed, str) else allowed
        self._allowed = {host_and_port(host) for host in hosts}
        if s3_endpoint is not None:
            self._allowed.add(_host_of(s3_endpoint))

    def check(self, target: UploadTarget) -> None:
        """Raise `PermissionDeniedError` if the host is not allowed, `UsageError` if the URL is invalid."""
        host, port = _host_of(target.url)
        if not {(host, port), (host, None)} & self._allowed:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise PermissionDeniedError(
                f"uploads to {address} are not allowed on this device; start it with --upload-to {address}"
            )


def _host_of(url: str) -> tuple[str, int]:
    """Read the host and port that `_put` connects to, as aiohttp reads them."""
    try:
        parts = URL(url, encoded=True)
        host, port = parts.host, parts.port
    except ValueError:
        raise UsageError("the upload URL is not usable") from None
    if not host or not port or parts.user is not None or parts.password is not None:
        raise UsageError("the upload URL is not usable: it must name a host, and no user")
    return host.lower(), port


@dataclass(slots=True)
class _Upload:
    file: StoredRecording
    target: UploadTarget
    status: UploadStatus = UploadStatus.QUEUED
    sent: int = 0
    began: float = 0.0
    speed: float = 0.0
    error: str = ""

    def item(self) -> UploadItem:
        size = self.file.size
        error = {"error": self.error} if self.error else {}
        return UploadItem(
            fileName=self.file.name,
            fileSize=size,
            bytesUploaded=self.sent,
            uploadProgress=round(100 * self.sent / size, 1) if size else 0.0,
            uploadSpeed=round(self.speed),
            status=self.status,
            **error,
        )


class UploadQueue:
    """Uploads recordings one after another and deletes each once it is uploaded.

    Temporary failures are retried; a file that cannot be uploaded is kept, and listed as failed until it is
    queued again. The queue holds credentials, so it is not kept on disk. A caller's ``http`` session is not
    closed.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        http: aiohttp.ClientSession | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._http = http
        self._own_http: aiohttp.ClientSession | None = None
        self._scope = TaskScope("multicam-uploads")
        self._queue: deque[_Upload] = deque()
        self._failed: deque[_Upload] = deque(maxlen=_MAX_FAILED)
        self._working = False

    @property
    def items(self) -> list[UploadItem]:
        """Queued uploads, the running one first."""
        return [upload.item() for upload in self._queue]

    @property
    def failed(self) -> list[UploadItem]:
        """Failed uploads, oldest first."""
        return [upload.item() for upload in self._failed]

    def add(self, file: StoredRecording, target: UploadTarget) -> None:
        """Queue a file, or replace the target of a queued one; raise `StateError` if the queue is closed."""
        for upload in self._queue:
            if upload.file.name == file.name:
                upload.target = target
                return
        self._failed = deque((old for old in self._failed if old.file.name != file.name), _MAX_FAILED)
        if not self._working:
            self._scope.spawn(self._work(), name="worker")
            self._working = True
        self._queue.append(_Upload(file, target))

    async def aclose(self) -> None:
        """Abort the running upload; its file is kept. May be called twice."""
        await self._scope.aclose()
        if self._own_http is not None:
            await self._own_http.close()

    async def _work(self) -> None:
        try:
            while self._queue:
                upload = self._queue[0]
                try:
                    await retry(
                        partial(self._try, upload),
                        attempts=ATTEMPTS,
                        backoff=RETRIES,
                        clock=self._clock,
                    )
                    await self._storage.delete(upload.file.name)
                except AsynccamError as error:
                    self._give_up(upload, str(error))
                except Exception:  # noqa: BLE001 - one file's failure must not end the queue
                    _LOG.exception("the upload of %s failed", upload.file.name)
                    self._give_up(upload, "internal error")
                self._queue.popleft()
        finally:
            self._working = False

    def _give_up(self, upload: _Upload, reason: str) -> None:
        _LOG.warning("%s is not uploaded: %s", upload.file.name, reason)
        upload.status, upload.error, upload.speed = UploadStatus.FAILED, reason, 0.0
        self._failed.append(upload)

    async def _try(self, upload: _Upload) -> None:
        upload.status, upload.sent, upload.speed = UploadStatus.UPLOADING, 0, 0.0
        upload.began = self._clock.monotonic()
        async with self._storage.reading(upload.file) as file:
            try:
                await self._put(upload, upload.target, file)
            except RetryableError as error:
                upload.status, upload.error = UploadStatus.QUEUED, str(error)
                raise
        upload.error = ""

    async def _put(self, upload: _Upload, target: UploadTarget, file: OpenFile) -> None:
        """Send one PUT from disk."""
        headers = {"Content-Length": str(file.size)}
        if target.credentials is not None:
            headers |= sign("PUT", target.url, target.credentials, self._clock.time())
        stall = asyncio.timeout(STALL_TIMEOUT)
        status, reason = 0, ""
        try:
            async with (
                stall,
                self._session().put(
                    URL(target.url, encoded=True),  # Another encoding would break the signature.
                    data=self._read(upload, file, stall),
                    headers=headers,
                    skip_auto_headers=("Content-Type",),  # Not among what a presigned URL allows for.
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                ) as response,
            ):
                status, reason = response.status, clean_text(response.reason or "")
        # aiohttp's own errors are not chained: their texts hold the whole URL with its signature.
        except builtins.TimeoutError:
            raise TimeoutError(f"{target.host} made no progress in {STALL_TIMEOUT:g} s") from None
        except (aiohttp.InvalidURL, ValueError):
            raise UsageError("the upload URL is not usable") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionError(f"lost {target.host}: {type(error).__name__}") from None
        if status in _RETRYABLE:
            raise ConnectionError(f"{target.host} answered {status} {reason}")
        if not 200 <= status < 300:
            raise DeviceError(f"{target.host} answered {status} {reason}", status=str(status))

    async def _read(self, upload: _Upload, file: OpenFile, stall: asyncio.Timeout) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while upload.sent < file.size:
            wanted = min(_CHUNK, file.size - upload.sent)
            data = await loop.run_in_executor(None, os.pread, file.fd, wanted, upload.sent)
            if not data:
                raise StorageError(f"{upload.file.name} became shorter while it was uploaded")
            yield data
            # aiohttp requests the next block once this one was sent.
            upload.sent += len(data)
            upload.speed = upload.sent / max(self._clock.monotonic() - upload.began, 1e-3)
            stall.reschedule(loop.time() + STALL_TIMEOUT)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is not None:
            return self._http
        if self._own_http is None:
            # Names are resolved once, so that an allowed name cannot become another address later.
            connector = aiohttp.TCPConnector(use_dns_cache=True, ttl_dns_cache=None)
            self._own_http = aiohttp.ClientSession(connector=connector)
        return self._own_http
