"""Files a media server captures, onto this computer's disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from asynccam.errors import DeviceError, RemoteProtocolError, StorageError
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.net.download import PartFile
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.nanocam.client_conversation import Conversation, unexpected
from asynccam.systems.nanocam.client_link import ClientTimeouts
from asynccam.systems.nanocam.replies import FileBegins
from asynccam.systems.nanocam.wire import (
    ImageRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.wire_answers import (
    FileList,
    Finished,
    local_name,
)


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How files are brought home.

    Attributes:
        override: Whether a stream that has the camera is ended.
        digest: Whether files get a SHA-256 digest.
        progress: Told of the bytes of each file, or None.
    """

    override: bool
    digest: bool
    progress: Progress | None


async def fetch(
    conversation: Conversation,
    request: ImageRequest | VideoRequest,
    directory: Path,
    files: list[LocalFile],
    timeouts: ClientTimeouts,
    *,
    took: float,
    options: FetchOptions,
) -> None:
    """Ask for a capture and bring its files home.

    Args:
        conversation: With the server.
        request: What is asked, with ``file`` as its format.
        directory: Where files go; made if missing.
        files: Gets each file when it is home, so that they are known when a later one fails.
        timeouts: How patient it is.
        took: Seconds the capture takes by itself.
        options: How files are brought home.

    Raises:
        BusyError: A stream has the camera.
        TransferError: A file ended early; what came of it is kept.
        DeviceError, AuthenticationError: The server refuses, or captured nothing.
        ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        StorageError: This computer's disk.
    """
    await on_disk(prepare, directory)
    async with conversation.exchange() as link:
        answer = await conversation.begin(link, request, took + timeouts.capture, override=options.override)
        if not isinstance(answer, FileList):
            raise unexpected(answer, link.peer)
        for file in answer.files:
            start = await link.answer(timeouts.stall, "file")
            if not isinstance(start, FileBegins):
                raise RemoteProtocolError(f"{link.peer} does not send {file.name!r}")
            name = local_name(file.name)
            part = await PartFile.open(directory, name, size=file.size, digest=options.digest)
            async with part:
                await link.receive(part, options.progress)
                files.append(await part.commit(file.name))
        end = await link.answer(timeouts.stall, "end of the files")
        if not isinstance(end, Finished):
            raise unexpected(end, link.peer)
        if not files:
            raise DeviceError(f"{link.peer} captured nothing")


def prepare(directory: Path) -> None:
    """See that files can be stored, before a server is asked for them; blocking.

    Raises:
        StorageError: They cannot.
    """
    with storage_errors("store files in", directory):
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StorageError(f"cannot store files in {directory}: no permission to write there")
