"""MediaClient: pictures and video from a media server, the maker's or our own.

See docs/protocols/nanocam.md for the wire, and docs/nanocam.md for its use.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from asynccam.errors import StateError, UsageError
from asynccam.model.features import Progress
from asynccam.model.info import LocalFile
from asynccam.recording.outputs import RecorderOutput, SingleFile
from asynccam.recording.verify import FileVerdict
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import finish
from asynccam.systems.nanocam.client_arrays import as_arrays
from asynccam.systems.nanocam.client_conversation import Conversation
from asynccam.systems.nanocam.client_fetch import FetchOptions, fetch, prepare
from asynccam.systems.nanocam.client_receive import Receiver, free_path, receive
from asynccam.systems.nanocam.client_session import ClientTimeouts
from asynccam.systems.nanocam.csi.hls import HlsPlaylist
from asynccam.systems.nanocam.protocol import (
    ImageRequest,
    Ours,
    VideoRequest,
)
from asynccam.systems.nanocam.server.options import MEDIA_PORT, MESSAGE_PORT
from asynccam.systems.nanocam.wire_answers import (
    local_name,
)
from asynccam.wall_clock import local_now

if TYPE_CHECKING:
    from asynccam.systems.nanocam.client_arrays import Picture

WIDTH: Final = 3280
HEIGHT: Final = 2464
"""Of a picture, where nothing else is asked for: what the camera has."""

_PICTURE: Final = 4.0
"""Seconds a picture may take beyond its interval: the camera settles for each."""


class MediaClient:
    """A client of a media server; `connect` it, or use it as a context manager.

    One request is made at a time; others wait. While a stream is received (`video_request` with
    ``src="udp"``, `hls_request`) `send_timer_reset` and `kill` may be called beside it.

    An original server dies of what a client should not send, and of clients that leave while it captures.
    So the first is not sent, and after a cancelled request its answer is still read, and thrown away,
    before the next request or by `aclose`.

    Args:
        host: The server.
        port: Its TCP port for messages.
        media_path: Where files go; made if missing.
        media_port: UDP port streams come to. The maker's servers know 5004 only.
        token: For a server of our own that wants one. It goes over the network as it is.
        timeouts: How patient it is.
        digest: Whether files get a SHA-256 digest, which takes another core's time.

    Attributes:
        media_path: Where files go.
        received: The files of the last request that brought some, with their digests.
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
        digest: bool = True,
    ) -> None:
        self.received: list[LocalFile] = []
        self.media_path = Path(media_path)
        self._timeouts = timeouts or ClientTimeouts()
        self._digest = digest
        self._talk = Conversation(host, port, Ours(token, media_port), self._timeouts)
        self._receiver: Receiver | None = None

    # -- settings -----------------------------------------------------------------------------------

    def set_hostip(self, host: str) -> None:
        """Name the server, by address or name; counts from the next `connect` on."""
        self._talk.host = host

    def set_msg_port(self, port: int) -> None:
        """Set the server's TCP port for messages; counts from the next `connect` on."""
        self._talk.port = port

    def set_media_port(self, port: int) -> None:
        """Set the UDP port that streams come to.

        Raises:
            UsageError: It is none.
        """
        self._talk.ours = Ours(self._talk.ours.token, port)

    def set_media_path(self, path: str | Path) -> None:
        """Set where files go; made if missing."""
        self.media_path = Path(path)

    @property
    def framed(self) -> bool | None:
        """Whether the server is one of ours; None before its first answer."""
        return self._talk.framed

    # -- life ---------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect; harmless when connected. A connection that was lost is made again when it is needed.

        An original server serves one client: with another one there, the connection is made, and requests
        wait in vain.

        Raises:
            ConnectionError, TimeoutError: It cannot be reached.
            UsageError: Host or port cannot be right.
        """
        await self._talk.connect()

    async def aclose(self) -> None:
        """Say goodbye and disconnect; harmless when called twice.

        Waits up to ``timeouts.leave`` for an original server to end a capture whose answer is still owed.
        """
        if self._receiver is not None:
            await self._receiver.stop()
        await self._talk.aclose()

    async def __aenter__(self) -> "MediaClient":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Have pictures taken, and bring them home.

        Args:
            frames: How many.
            interval: Seconds between them; an original server knows whole ones, and gets them rounded up.
            width: Pixels; an original server ignores it.
            height: Pixels; an original server ignores it.
            display: Return the pictures as arrays as well. Nothing is shown: a library opens no windows.
            override: End a stream that has the camera, whoever it is for.

        Returns:
            The files, and with ``display`` the pictures: height x width x 3 bytes, blue first, as OpenCV has
            them. Without the extra ``video`` there are none.

        Raises:
            BusyError: A stream has the camera, and ``override`` was not asked for or not allowed.
            ConnectionError, TimeoutError: The server is gone, or does not answer.
            TransferError: A file ended early; what came of it is kept. Those before it are in `received`.
            DamagedFileError: A picture is broken; it is kept as ``part``, and the others are in `received`.
            DeviceError: The server took no picture.
            AuthenticationError: The token is missing or wrong.
            RemoteProtocolError: The server sends nonsense.
            StorageError: This computer's disk.
            UsageError: A number cannot be.
        """
        files = await self.fetch_images(frames, interval, width=width, height=height, override=override)
        return await as_arrays([one.path for one in files], display)

    async def video_request(
        self,
        duration: float,
        width: int = WIDTH,
        height: int = HEIGHT,
        display: bool = False,
        override: bool = False,
        src: Literal["file", "udp"] = "file",
    ) -> tuple[list[Path], "list[Picture]"]:
        """Have a video recorded and bring it home, or receive it as it is taken.

        Args:
            duration: Seconds; an original server knows whole ones, and gets them rounded up.
            width: Pixels; an original server ignores it.
            height: Pixels; an original server ignores it.
            display: Return the frames as arrays as well, `MAX_FRAMES` at most. Nothing is shown: a library
                opens no windows.
            override: End a stream that has the camera, whoever it is for.
            src: ``file``: the server records an MP4 and sends that; ``udp``: it streams, and the MP4 is
                recorded here, from its first frame on.

        Returns:
            The file, and with ``display`` its frames, as in `image_request`.

        Raises:
            BusyError, ConnectionError, TimeoutError, TransferError, DeviceError, AuthenticationError,
            RemoteProtocolError, StorageError, UsageError: As `image_request`.
            RecordingError: GStreamer is missing here, or no stream came (``udp``).
        """
        if src == "file":
            file = await self.fetch_video(duration, width=width, height=height, override=override)
            return await as_arrays([file.path], display)
        if src != "udp":
            raise UsageError(f"a video comes as a file or by udp, not as {src!r}")
        await on_disk(prepare, self.media_path)
        name = local_name(local_now().strftime("%Y-%m-%d %H:%M:%S.mp4"))
        output = SingleFile(await on_disk(free_path, self.media_path / name))
        verdicts = await self.receive_stream(output, duration, width=width, height=height, override=override)
        return await as_arrays([one.path for one in verdicts], display)

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
        """Receive a stream into an HLS playlist for others to watch; returns when it is over.

        Args:
            duration: Seconds, from the first frame.
            hls_root: URL that the segments' directory is served at, such as ``http://localhost/``.
            hls_playloc: Path of the playlist, such as ``/var/www/public/stream0.m3u8``.
            hls_loc: Path of the segments, such as ``/var/www/public/fragment%05d.ts``.
            width: Pixels; an original server ignores it.
            height: Pixels; an original server ignores it.
            override: End a stream that has the camera, whoever it is for.
            hls_len: Segments the playlist names, 0 for all.
            hls_maxfiles: Segments that are kept, 0 for all.
            hls_duration: Seconds of a segment.

        Returns:
            What is in each segment that is there at the end.

        Raises:
            BusyError, ConnectionError, TimeoutError, DeviceError, AuthenticationError, RemoteProtocolError,
            RecordingError, StorageError, UsageError: As `video_request`.
        """
        output = HlsPlaylist(
            hls_root, Path(hls_playloc), os.fspath(hls_loc), hls_len, hls_maxfiles, hls_duration
        )
        await on_disk(prepare, output.directory)
        await on_disk(prepare, output.playlist.absolute().parent)
        return await self.receive_stream(output, duration, width=width, height=height, override=override)

    async def send_timer_reset(self, duration: float) -> None:
        """Let the stream that is being received go on for so many seconds from now.

        Raises:
            StateError: An original server has no stream running for this client, or one that is about to
                end: it would die of the request.
            DeviceError: A server of our own has none running.
            ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        await self._talk.reset_timer(duration)
        if self._receiver is not None:
            self._receiver.reset_timer(duration)

    async def kill(self) -> None:
        """End the stream that has the camera, this client's or another's; harmless when there is none.

        An original server survives a kill only in the place of another stream, so there the stream makes
        room for one of a second, at which nobody looks.

        Raises:
            BusyError: The server does not let this client end what another one has running.
            ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        await self._talk.kill()
        if self._receiver is not None:
            await self._receiver.stop()

    # -- what they are made of ----------------------------------------------------------------------

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
        """Have pictures taken, and bring them home: what `image_request` is made of; its errors are the same.

        Args:
            frames: How many.
            interval: Seconds between them.
            width: Pixels.
            height: Pixels.
            override: End a stream that has the camera.
            directory: Where they go instead of `media_path`.
            progress: Told of the bytes of each file.

        Returns:
            The files with their digests.
        """
        request = ImageRequest(frames, interval, width, height, self._talk.ours)
        took = frames * (interval + _PICTURE)
        return await self._fetch(request, took, override=override, directory=directory, progress=progress)

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
        """Have a video recorded, and bring it home: what `video_request` is made of; its errors are the same.

        Args:
            duration: Seconds.
            width: Pixels.
            height: Pixels.
            override: End a stream that has the camera.
            directory: Where it goes instead of `media_path`.
            progress: Told of the bytes.

        Returns:
            The file with its digest.
        """
        request = VideoRequest(duration, width, height, "file", self._talk.ours)
        files = await self._fetch(
            request, duration, override=override, directory=directory, progress=progress
        )
        return files[0]

    async def receive_stream(
        self,
        output: RecorderOutput,
        duration: float,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        override: bool = False,
    ) -> tuple[FileVerdict, ...]:
        """Receive a stream by UDP until its time is over, it stops coming, or `kill` is called.

        Cancelled, it finishes the files; a server of our own is parted with, which ends the stream.

        Args:
            output: Where it goes.
            duration: Seconds, from the first frame; `send_timer_reset` changes it.
            width: Pixels.
            height: Pixels.
            override: End a stream that has the camera.

        Returns:
            What is in each file.

        Raises:
            StateError: A stream is being received already.
            BusyError, ConnectionError, TimeoutError, DeviceError, AuthenticationError, RemoteProtocolError,
            RecordingError, StorageError, UsageError: As `video_request`.
        """
        request = VideoRequest(duration, width, height, "udp", self._talk.ours)
        if self._receiver is not None:
            raise StateError("a stream is being received already")
        port = self._talk.ours.port or MEDIA_PORT
        async with Receiver(port, output, duration, self._talk.address) as receiver:
            self._receiver = receiver
            try:
                return await receive(receiver, self._talk, request, self._timeouts, override=override)
            finally:
                self._receiver = None

    async def _fetch(
        self,
        request: ImageRequest | VideoRequest,
        took: float,
        *,
        override: bool,
        directory: Path | None,
        progress: Progress | None,
    ) -> tuple[LocalFile, ...]:
        self.received = []
        where, files, timeouts = directory or self.media_path, self.received, self._timeouts
        options = FetchOptions(override, self._digest, progress)
        await fetch(self._talk, request, where, files, timeouts, took=took, options=options)
        return tuple(self.received)
