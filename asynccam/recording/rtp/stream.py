"""RTP streams as `asynccam.recording.rtp.filter` tells of them; does no I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from asynccam.recording.rtp.rtcp import sender_reports
from asynccam.recording.rtp.times import RtpTimes

LINE_LIMIT = 1 << 14
"""Bytes of a line; longer ones are nothing that the filter prints."""


@dataclass(frozen=True, slots=True)
class RtpSender:
    """One RTP stream: where it comes from, and its SSRC.

    Attributes:
        address: IP address of the sender.
        port: Its UDP port.
        ssrc: RFC 3550, 3: the number that tells streams apart.
    """

    address: str
    port: int
    ssrc: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port} SSRC {self.ssrc:#010x}"


class RtpStream:
    """What is known of the stream that is recorded, and of others that came to its port.

    Args:
        on_other: Called with each other stream.

    Attributes:
        sender: The stream that is recorded, or None before its first packet.
        heard: Streams that came before one was chosen, where that waits for `RtpPort.choose`.
        others: Other streams that came to the port, none of which is recorded.
        left_out: Packets that were left out.
        times: What tells when the first frame was made.
    """

    def __init__(self, on_other: "Callable[[RtpSender], None] | None" = None) -> None:
        self.sender: RtpSender | None = None
        self.heard: tuple[RtpSender, ...] = ()
        self.others: tuple[RtpSender, ...] = ()
        self.left_out = 0
        self.times = RtpTimes()
        self._on_other = on_other
        self._line = b""

    def feed(self, data: bytes) -> None:
        """Take a piece of what the filter printed."""
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[:LINE_LIMIT]
        for line in lines:
            word, _, said = line.decode(errors="replace").partition(" ")
            self._heed(word, said.split())

    def _heed(self, word: str, said: list[str]) -> None:
        match word, said:
            case "stream", [address, port, ssrc]:
                self.sender = RtpSender(address, int(port), int(ssrc))
            case "heard", [address, port, ssrc]:
                self.heard = (*self.heard, RtpSender(address, int(port), int(ssrc)))
            case "other", [address, port, ssrc]:
                other = RtpSender(address, int(port), int(ssrc))
                self.others = (*self.others, other)
                if self._on_other is not None:
                    self._on_other(other)
            case "left-out", [count]:
                self.left_out = int(count)
            case "frame", [at, stamp]:
                self.times.frame(int(at) / 1e9, int(stamp))
            case "report", [at, packet]:
                for report in sender_reports(bytes.fromhex(packet)):
                    if self.sender is not None and report.ssrc == self.sender.ssrc:
                        self.times.report(int(at) / 1e9, report)

    @property
    def trouble(self) -> str:
        """What came to the port beside the stream that is recorded, in words, or ``""``.

        A stream of the same sender with another SSRC is one that was begun anew (RFC 3550, 8.2): it has its
        own times, and is not put behind the first one in the same file.
        """
        if not self.others:
            return ""
        sender = self.sender
        again = [one for one in self.others if sender is not None and one.address == sender.address]
        if again:
            words = f"{again[-1]} came from the same address as {sender}, and was left out"
            return f"another stream {words}"
        count = f"{self.left_out} packets" if self.left_out else "packets"
        return f"{count} of other senders were left out: {', '.join(map(str, self.others[:3]))}"
