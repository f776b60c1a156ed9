"""UDP ports that streams of several cameras come to, each to its own."""

from asynccam.errors import ConnectionError, RecordingError
from asynccam.recording.rtp.port import RtpPort
from asynccam.systems.nanocam.server.options import MEDIA_PORT


class MediaPorts:
    """Hands out UDP ports: the maker's, 5004, while it is free, and then whatever else is.

    Args:
        preferred: The port to hand out first, which servers of the maker send to.
    """

    def __init__(self, preferred: int = MEDIA_PORT) -> None:
        self.preferred = preferred

    def hold(self, address: str = "0.0.0.0") -> RtpPort:  # noqa: S104 - where servers send to
        """Bind a port that is free, where no stream is taken before `RtpPort.choose` is called.

        Args:
            address: Local address.

        Raises:
            ConnectionError: There is none.
        """
        try:
            return RtpPort(self.preferred, address, held=True)
        except RecordingError:
            pass
        try:
            return RtpPort(0, address, held=True)
        except RecordingError as error:
            raise ConnectionError(f"no UDP port is free for a stream: {error}") from error
