"""RTP streams as reported by `asynccam.recording.rtp.filter`; does no I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from asynccam.recording.rtp.rtcp import sender_reports
from asynccam.recording.rtp.times import RtpTimes

LINE_LIMIT = 1 << 14
"""Bytes of a line; the filter prints no longer ones."""


@dataclass(frozen=True, slots=True)
class RtpSender:
    """Sender of one RTP stream, by address, UDP port and SSRC (RFC 3550, 3)."""

    address: str
    port: int
    ssrc: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port} SSRC {self.ssrc:#010x}"


class RtpStream:
    """State of the recorded stream, and of others that arrived at its port."""

    def __init__(self, on_other: "Callable[[RtpSender], None] | None" = None) -> None:
        self.sender: RtpSender | None = None  # the recorded stream, or None before its first packet
        self.candidates: tuple[RtpSender, ...] = ()  # arrived before `RtpPort.choose`, where that is awaited
        self.others: tuple[RtpSender, ...] = ()  # arrived at the port too, and are not recorded
        self.left_out = 0  # packets that were left out
        self.times = RtpTimes()  # evidence of when the first frame was made
        self._on_other = on_other
        self._line = b""

    def feed(self, data: bytes) -> None:
        """Take a piece of the filter's output."""
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[:LINE_LIMIT]
        for line in lines:
            word, _, said = line.decode(errors="replace").partition(" ")
            self._take_line(word, said.split())

    def _take_line(self, word: str, said: list[str]) -> None:
        match word, said:
            case "stream", [address, port, ssrc]:
                self.sender = RtpSender(address, int(port), int(ssrc))
            case "candidate", [address, port, ssrc]:
                self.candidates = (*self.candidates, RtpSender(address, int(port), int(ssrc)))
            case "other", [address, port, ssrc]:
                other = RtpSender(address, int(port), int(ssrc))
                self.others = (*self.others, other)
                if self._on_other is not None:
                    self._on_other(other)
            case "left-out", [count]:
                self.left_out = int(count)
            case "frame", [at, stamp]:
                self.times.note_frame(int(at) / 1e9, int(stamp))
            case "report", [at, packet]:
                for report in sender_reports(bytes.fromhex(packet)):
                    if self.sender is not None and report.ssrc == self.sender.ssrc:
                        self.times.note_report(int(at) / 1e9, report)

    @property
    def trouble(self) -> str:
        """Other streams at the port, in words, or ``""``.

        A stream of the same sender with another SSRC is that sender's new one (RFC 3550, 8.2): it has its own
        times, and is not appended to the first one in the same file.
        """
        if not self.others:
            return ""
        sender = self.sender
        again = [other for other in self.others if sender is not None and other.address == sender.address]
        if again:
            return f"another stream {again[-1]} has the same address as {sender}, and was left out"
        count = f"{self.left_out} packets" if self.left_out else "packets"
        return f"{count} of other senders were left out: {', '.join(map(str, self.others[:3]))}"
