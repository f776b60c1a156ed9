"""Files a media server captures, onto this computer's disk."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.errors import DamagedFileError, DeviceError, RemoteProtocolError, StorageError
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.model.safe_files import Folder
from asynccam.net.transfer.download import PartFile
from asynccam.recording.pictures import inspect_picture
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.systems.nanocam.client_conversation import Conversation, unexpected
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.protocol import (
    ImageRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.reply_parser import FileBegins
from asynccam.systems.nanocam.wire_answers import (
    FileList,
    Finished,
    local_name,
)

_JPEGS: Final = (".jpg", ".jpeg")


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
        DamagedFileError: A picture is broken, the first of several; what came is kept. The others are here.
        DeviceError, AuthenticationError: The server refuses, or captured nothing.
        ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        StorageError: This computer's disk.
    """
    await on_disk(prepare, directory)
    broken: DamagedFileError | None = None
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
                try:
                    await _settle_picture(part)
                except DamagedFileError as error:
                    # The others are still to come, and an original server dies if it is left before.
                    broken = broken or error
                else:
                    files.append(await part.commit(file.name))
        end = await link.answer(timeouts.stall, "end of the files")
        if not isinstance(end, Finished):
            raise unexpected(end, link.peer)
        if not files and broken is None:
            raise DeviceError(f"{link.peer} captured nothing")
    if broken is not None:
        raise broken


async def _settle_picture(part: PartFile) -> None:
    """Read a picture that came, and drop what precedes it; any other file is left alone.

    Raises:
        DamagedFileError: The picture is broken, or there is none; the part is kept.
        StorageError: This computer's disk.
    """
    if part.target.suffix.lower() not in _JPEGS:
        return
    try:
        begin = await on_disk(inspect_picture, part.path, part.target.name)
    except RemoteProtocolError as error:
        verdict = error.verdict if isinstance(error, DamagedFileError) else "damaged"
        kept = await part.keep()
        words = f"{error}; what came is kept as {kept}"
        raise DamagedFileError(words, part=kept, received=part.received, verdict=verdict) from error
    if begin:
        await part.drop_head(begin)


def prepare(directory: Path) -> None:
    """See that files can be stored, before a server is asked for them; blocking.

    Raises:
        StorageError: They cannot.
    """
    with storage_errors("store files in", directory):
        Folder(directory, make=True).close()
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StorageError(f"cannot store files in {directory}: no permission to write there")
