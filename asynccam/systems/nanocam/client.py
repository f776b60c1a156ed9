"""MediaClient: pictures and video from a media server, the maker's or asynccam's.

See docs/protocols/nanocam.md for the protocol, and docs/nanocam.md for the use.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from asynccam.errors import (
    AsynccamError,
    DamagedFileError,
    DeviceError,
    RecordingError,
    RemoteProtocolError,
    StateError,
    StorageError,
    UsageError,
)
from asynccam.model.digest import SHA256, DigestChoice, DigestName, checked_digest
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.model.safe_files import Folder
from asynccam.net.transfer.partfile import PartFile
from asynccam.recording.events import RecorderStalled
from asynccam.recording.outputs import RecorderOutput, SingleFile
from asynccam.recording.pictures import inspect_picture
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.recorder import Limits, Recorder
from asynccam.recording.sources import RtpSource
from asynccam.recording.verify import FileVerdict
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.client_session import ClientTimeouts, NanocamSession, unexpected
from asynccam.systems.nanocam.csi.hls import HlsPlaylist
from asynccam.systems.nanocam.filenames import free_path
from asynccam.systems.nanocam.protocol import (
    ExtensionOptions,
    FileListing,
    Finished,
    ImageRequest,
    VideoRequest,
    local_name,
)
from asynccam.systems.nanocam.reply_parser import FileBegins
from asynccam.systems.nanocam.server.options import MEDIA_PORT, MESSAGE_PORT
from asynccam.wall_clock import local_now

if TYPE_CHECKING:
    import numpy

    Picture = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
    """Height x width x 3 bytes, blue first, as in OpenCV."""

_LOG = logging.getLogger(__name__)

WIDTH: Final = 3280
HEIGHT: Final = 2464
"""Default size of a picture: the camera's."""
MAX_FRAMES: Final = 300
"""Maximum frames of one file that become arrays: at 1920x1080 they take nearly 2 GB."""

_PICTURE_SECONDS: Final = 4.0
"""Seconds a picture may take in addition to its interval: the exposure settles for each."""
_JPEG_SUFFIXES: Final = (".jpg", ".jpeg")


class MediaClient:
    """Client of a media server; `connect` it, or use it as a context manager.

    One request is made at a time; others wait. While a stream is received (`video_request` with
    ``src="udp"``, `hls_request`), `send_timer_reset` and `kill` may be called.

    An original server crashes if a client sends what it does not expect, or leaves while it captures. The
    client does not send such requests. After a cancelled request it still reads the response, and discards
    it, before the next request or in `aclose`.

    Args:
        host: Server.
        port: TCP port for messages.
        media_path: Directory for files; made if missing.
        media_port: UDP port for streams. The maker's servers know 5004 only.
        token: Token of a framed server that requires one. It is sent unencrypted.
        timeouts: Timeouts.
        digest: Algorithm of the files' digests, which take another core's time; true is SHA-256, false or
            None is no digest.

    Attributes:
        media_path: As given.
        received: Files of the last request that returned some, with their digests.
    """

    def __init__(
        self,
        host: str = "",
        port: int = MESSAGE_PORT,
        *,
        media_path: str | Path = ".",
        media_port: int = MEDIA_PORT,
        token: str | None = None,
        timeouts: ClientTimeouts | None = None,
        digest: DigestChoice = SHA256,
    ) -> None:
        self.received: list[LocalFile] = []
        self.media_path = Path(media_path)
        self._timeouts = timeouts or ClientTimeouts()
        self._digest: DigestName | None = checked_digest(digest)
        self._session = NanocamSession(host, port, ExtensionOptions(token, media_port), self._timeouts)
        self._recorder: Recorder | None = None
        self._new_duration: float | None = None

    # -- settings -----------------------------------------------------------------------------------

    def set_hostip(self, host: str) -> None:
        """Set the server's address or name; takes effect at the next `connect`."""
        self._session.host = host

    def set_msg_port(self, port: int) -> None:
        """Set the server's TCP port for messages; takes effect at the next `connect`."""
        self._session.port = port

    def set_media_port(self, port: int) -> None:
        """Set the UDP port for streams.

        Raises:
            UsageError: Not a port from 1024 to 65535.
        """
        self._session.extension = ExtensionOptions(self._session.extension.token, port)

    def set_media_path(self, path: str | Path) -> None:
        """Set the directory for files; made if missing."""
        self.media_path = Path(path)

    @property
    def framed(self) -> bool | None:
        """Return whether the server is one of asynccam's; None before its first response."""
        return self._session.framed

    # -- lifecycle ----------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect; harmless when connected. A connection that is lost is made again when it is needed.

        An original server serves one client at a time: the connection of a second one is accepted, and its
        requests time out.

        Raises:
            ConnectionError, TimeoutError: The server cannot be reached.
            UsageError: Host or port is not valid.
        """
        await self._session.connect()

    async def aclose(self) -> None:
        """Say goodbye and disconnect; harmless when called twice.

        Waits up to ``timeouts.leave`` for an original server to end a capture whose response is pending.
        """
        await self._stop_recorder()
        await self._session.aclose()

    async def __aenter__(self) -> "MediaClient":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await finish(self.aclose())

    # -- the maker's calls --------------------------------------------------------------------------

    async def image_request(
        self,
        frames: int,
        interval: float,
        width: int = WIDTH,
        height: int = HEIGHT,
        display: bool = False,
        override: bool = False,
    ) -> tuple[list[Path], "list[Picture]"]:
        """Have the server take pictures, one every ``interval`` seconds, and download them.

        An original server gets whole seconds, rounded up, and ignores ``width`` and ``height`` (pixels). With
        ``override`` a stream that has the camera is ended, whichever client it is for.

        Returns:
            The files, and with ``display`` the pictures: height x width x 3 bytes, blue first, as in OpenCV.
            Without the extra ``video`` there are no arrays. No window is opened.

        Raises:
            BusyError: A stream has the camera, and ``override`` is False or not allowed.
            ConnectionError, TimeoutError: The connection is lost, or the server does not answer.
            TransferError: A file ended early; its part is kept. Those before it are in `received`.
            DamagedFileError: A picture is damaged; it is kept as ``part``, and the others are in `received`.
            DeviceError: The server took no picture.
            AuthenticationError: The token is missing or wrong.
            RemoteProtocolError: The server breaks the protocol.
            StorageError: The files cannot be written.
            UsageError: A number is out of range.
        """
        files = await self.fetch_images(frames, interval, width=width, height=height, override=override)
        return await _as_arrays([file.path for file in files], display)

    async def video_request(
        self,
        duration: float,
        width: int = WIDTH,
        height: int = HEIGHT,
        display: bool = False,
        override: bool = False,
        src: Literal["file", "udp"] = "file",
    ) -> tuple[list[Path], "list[Picture]"]:
        """Have the server record a video of ``duration`` seconds and download it, or receive it live.

        With ``src="file"`` the server records an MP4 and sends it. With ``src="udp"`` it streams, and the MP4
        is recorded here, from its first frame on. The other arguments are those of `image_request`.

        Returns:
            The file, and with ``display`` its frames, `MAX_FRAMES` at most, as in `image_request`.

        Raises:
            BusyError, ConnectionError, TimeoutError, TransferError, DeviceError, AuthenticationError,
            RemoteProtocolError, StorageError, UsageError: As `image_request`.
            RecordingError: GStreamer is missing here, or no stream arrived (``udp``).
        """
        if src == "file":
            file = await self.fetch_video(duration, width=width, height=height, override=override)
            return await _as_arrays([file.path], display)
        if src != "udp":
            raise UsageError(f"src must be 'file' or 'udp', not {src!r}")
        await on_disk(_prepare_directory, self.media_path)
        name = local_name(local_now().strftime("%Y-%m-%d %H:%M:%S.mp4"))
        output = SingleFile(await on_disk(free_path, self.media_path / name))
        verdicts = await self.receive_stream(output, duration, width=width, height=height, override=override)
        return await _as_arrays([verdict.path for verdict in verdicts], display)

    async def hls_request(
        self,
        duration: float,
        hls_root: str,
        hls_playloc: str | Path,
        hls_loc: str | Path,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
        hls_len: int = 10,
        hls_maxfiles: int = 10,
        hls_duration: int = 5,
    ) -> tuple[FileVerdict, ...]:
        """Receive a stream into an HLS playlist; returns when it is over.

        ``duration`` is in seconds from the first frame. ``hls_root`` is the URL of the segments' directory,
        such as ``http://localhost/``; ``hls_playloc`` the path of the playlist, such as
        ``/var/www/public/stream0.m3u8``; ``hls_loc`` that of the segments, such as
        ``/var/www/public/fragment%05d.ts``. The playlist has ``hls_len`` segments of ``hls_duration``
        seconds, and ``hls_maxfiles`` are kept; 0 is all. Other arguments as of `image_request`.

        Returns:
            The verdict on each segment that is left at the end.

        Raises:
            BusyError, ConnectionError, TimeoutError, DeviceError, AuthenticationError, RemoteProtocolError,
            RecordingError, StorageError, UsageError: As `video_request`.
        """
        output = HlsPlaylist(
            hls_root, Path(hls_playloc), os.fspath(hls_loc), hls_len, hls_maxfiles, hls_duration
        )
        await on_disk(_prepare_directory, output.directory)
        await on_disk(_prepare_directory, output.playlist.absolute().parent)
        return await self.receive_stream(output, duration, width=width, height=height, override=override)

    async def send_timer_reset(self, duration: float) -> None:
        """Let the stream that is being received go on for ``duration`` seconds from now.

        Raises:
            StateError: An original server has no stream running for this client, or one that is about to
                end: it would crash.
            DeviceError: A framed server has no stream running.
            ConnectionError, TimeoutError, RemoteProtocolError: As `image_request`.
        """
        await self._session.reset_timer(duration)
        self._new_duration = duration  # a recorder without a first frame is not extended yet
        if self._recorder is not None:
            self._recorder.reset_timer(duration)

    async def kill(self) -> None:
        """End the stream that has the camera, of this client or another; harmless when there is none.

        An original server survives a kill only if another stream takes the place; that is one of a second.

        Raises:
            BusyError: The server does not let this client end another client's capture.
            ConnectionError, TimeoutError, RemoteProtocolError: As `image_request`.
        """
        await self._session.kill()
        await self._stop_recorder()

    # -- with digests and progress ------------------------------------------------------------------

    async def fetch_images(
        self,
        frames: int,
        interval: float,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
        directory: Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[LocalFile, ...]:
        """Have the server take pictures, and download them; arguments and errors as of `image_request`.

        ``directory`` replaces `media_path`; ``progress`` is called with the bytes of each file.
        """
        request = ImageRequest(frames, interval, width, height, self._session.extension)
        capture = frames * (interval + _PICTURE_SECONDS)
        return await self._fetch(request, capture, override, directory, progress)

    async def fetch_video(
        self,
        duration: float,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
        directory: Path | None = None,
        progress: Progress | None = None,
    ) -> LocalFile:
        """Have the server record a video, and download it; arguments and errors as of `video_request`.

        ``directory`` replaces `media_path`; ``progress`` is called with the bytes of the file.
        """
        request = VideoRequest(duration, width, height, "file", self._session.extension)
        return (await self._fetch(request, duration, override, directory, progress))[0]

    async def receive_stream(
        self,
        output: RecorderOutput,
        duration: float,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
    ) -> tuple[FileVerdict, ...]:
        """Receive a stream by UDP until its time is over, it stops, or `kill` is called.

        ``duration`` is in seconds from the first frame; `send_timer_reset` changes it. Cancelled, it finishes
        the files; a framed server stops sending however this ends.

        Returns:
            The verdict on each file.

        Raises:
            StateError: A stream is being received already.
            BusyError, ConnectionError, TimeoutError, DeviceError, AuthenticationError, RemoteProtocolError,
            RecordingError, StorageError, UsageError: As `video_request`.
        """
        request = VideoRequest(duration, width, height, "udp", self._session.extension)
        if self._recorder is not None:
            raise StateError("a stream is being received already")
        port, sender = self._session.extension.port or MEDIA_PORT, self._session.address
        any_address = "::" if sender is not None and ":" in sender else "0.0.0.0"  # noqa: S104
        pipeline = Pipeline(RtpSource(port, any_address, sender=sender), output)
        async with Recorder(pipeline, name="nanocam stream", limits=Limits(seconds=duration)) as recorder:
            self._recorder, self._new_duration = recorder, None
            try:
                return await self._receive(recorder, request, override)
            finally:
                self._recorder = None

    # -- files --------------------------------------------------------------------------------------

    async def _fetch(
        self,
        request: ImageRequest | VideoRequest,
        capture: float,
        override: bool,
        directory: Path | None,
        progress: Progress | None,
    ) -> tuple[LocalFile, ...]:
        """Request files and download them; ``capture`` is the capture's own time in seconds."""
        self.received = files = []
        directory = directory or self.media_path
        await on_disk(_prepare_directory, directory)
        damaged: DamagedFileError | None = None
        async with self._session.exchange() as connection:
            answer = await self._session.begin(
                connection, request, capture + self._timeouts.capture, override=override
            )
            if not isinstance(answer, FileListing):
                raise unexpected(answer, connection.peer)
            for file in answer.files:
                start = await connection.answer(self._timeouts.stall, "file")
                if not isinstance(start, FileBegins):
                    raise RemoteProtocolError(f"{connection.peer} does not send {file.name!r}")
                name = local_name(file.name)
                part = await PartFile.open(directory, name, size=file.size, digest=self._digest)
                async with part:
                    await connection.receive(part, progress)
                    try:
                        await _check_picture(part)
                    except DamagedFileError as error:
                        # The others follow, and an original server crashes if a client leaves before.
                        damaged = damaged or error
                    else:
                        files.append(await part.commit(file.name))
            end = await connection.answer(self._timeouts.stall, "end of the files")
            if not isinstance(end, Finished):
                raise unexpected(end, connection.peer)
            if not files and damaged is None:
                raise DeviceError(f"{connection.peer} captured nothing")
        if damaged is not None:
            raise damaged
        return tuple(files)

    # -- streams ------------------------------------------------------------------------------------

    async def _receive(
        self, recorder: Recorder, request: VideoRequest, override: bool
    ) -> tuple[FileVerdict, ...]:
        session, accepted = self._session, False
        async with TaskScope("nanocam stream") as scope:
            try:
                # Listening before the stream begins, so that its first key frame is not missed.
                listening = scope.spawn(_listen(recorder, self._timeouts.capture), name="first frame")
                async with session.exchange() as connection:
                    await session.begin_stream(connection, request, self._timeouts.capture, override=override)
                accepted = True
                async with deadline(self._timeouts.first_frame, f"first frame from {connection.peer}"):
                    await listening
                return await self._record(recorder)
            finally:
                if accepted:
                    session.leave_framed()
                session.stream_until = 0.0

    async def _record(self, recorder: Recorder) -> tuple[FileVerdict, ...]:
        """Record until the time is over, the stream stops or the recorder is stopped."""

        async def stalled(_: RecorderStalled) -> None:
            await recorder.stop()  # the protocol has no message for the end of a stream

        if self._new_duration is not None:
            recorder.reset_timer(self._new_duration)
        with recorder.events.subscribe(stalled, RecorderStalled):
            verdicts = await recorder.wait()
        if recorder.error is not None:
            raise recorder.error
        if not any(verdict.frames for verdict in verdicts):
            raise RecordingError("the stream had no frame")
        return verdicts

    async def _stop_recorder(self) -> None:
        """Stop receiving and finish the files; harmless before the first frame."""
        if self._recorder is not None and self._recorder.first_frame_at is not None:
            await self._recorder.stop()


async def _listen(recorder: Recorder, timeout: float) -> None:
    """Return when the first frame is written, or the recorder gave up: it keeps its error."""
    with suppress(AsynccamError):
        await recorder.start(timeout=timeout)


async def _check_picture(part: PartFile) -> None:
    """Parse a JPEG that was received and drop bytes before its start; ignore any other file.

    Raises:
        DamagedFileError: The picture is damaged, or there is none; the part is kept.
        StorageError: The part cannot be read or written.
    """
    if part.target.suffix.lower() not in _JPEG_SUFFIXES:
        return
    try:
        begin = await on_disk(inspect_picture, part.path, part.target.name)
    except RemoteProtocolError as error:
        verdict = error.verdict if isinstance(error, DamagedFileError) else "damaged"
        kept = await part.keep()
        text = f"{error}; the received bytes are kept as {kept}"
        raise DamagedFileError(text, part=kept, received=part.received, verdict=verdict) from error
    if begin:
        await part.drop_head(begin)


def _prepare_directory(directory: Path) -> None:
    """Make the directory and check that it can be written, before the server is asked; blocking."""
    with storage_errors("store files in", directory):
        Folder(directory, make=True).close()
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StorageError(f"cannot store files in {directory}: no permission to write there")


async def _as_arrays(paths: list[Path], wanted: bool) -> tuple[list[Path], "list[Picture]"]:
    """Return the files, and if wanted their frames; without PyAV, or of a damaged file, there are none."""
    if not wanted:
        return paths, []
    try:
        import av  # noqa: F401 - checked here, used in a thread
        import numpy  # noqa: F401 - as above
    except ImportError:
        _LOG.warning("pictures as arrays need asynccam[video]; %d files have none", len(paths))
        return paths, []
    return paths, [picture for path in paths for picture in await on_disk(_decode, path)]


def _decode(path: Path) -> "list[Picture]":
    import av
    from av.error import FFmpegError

    pictures: list[Picture] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if len(pictures) == MAX_FRAMES:
                    _LOG.warning("%s has more than %d frames; the others are in the file", path, MAX_FRAMES)
                    break
                pictures.append(frame.to_ndarray(format="bgr24").astype("uint8", copy=False))
    except (FFmpegError, IndexError) as error:
        _LOG.warning("%s cannot be decoded: %s", path, error)
    return pictures
