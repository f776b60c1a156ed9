"""When the first frame of an RTP stream was made, by arrivals and by the sender's reports; does no I/O.

A frame was made before it arrived. All frames carry RTP times of one clock (RFC 3550, 5.1), so each arrival
bounds the first frame from above, and the frame that was quickest on its way bounds it best. A sender report
(6.4.1) is an arrival too, of a moment in RTP time that did not have to be encoded. By the sender's time of
day it also gives the moment on the sender's clock, which may be set to anything.
"""

import statistics
from dataclasses import dataclass
from typing import Final

from asynccam.model.info import DRIFT_LIMIT
from asynccam.recording.rtp.rtcp import SenderReport

CLOCK_RATE: Final = 90_000
"""RTP ticks a second of all video: RFC 6184, 8.2.1; RFC 7798, 7.1."""
REPORT_DELAY: Final = 0.03
"""Seconds that the quickest of a sender's reports takes at most to arrive. Assumed."""
STAMP_TOLERANCE: Final = 0.01
"""Seconds by which RTP times may be off when frames were made: many senders stamp evenly. Assumed."""
REPORT_TOLERANCE: Final = 0.01
"""Seconds that a sender may take between reading its two clocks for a report; 0.1 to 2 ms were measured."""
_WINDOW: Final = 10.0
"""Seconds from the first frame within which arrivals count; later on drift makes them worth less."""
_MAX_ARRIVALS: Final = 2000  # arrivals that are kept; later ones add nothing about how busy the sender is
_WRAP: Final = 1 << 32
_HALF: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class RtpFirstFrame:
    """Interval in which the first frame was made, elapsed seconds."""

    earliest: float
    latest: float
    contradictions: tuple[str, ...] = ()  # evidence that excludes other, in words; the interval covers both


class RtpTimes:
    """Evidence of the time of the first frame; of bounded size."""

    def __init__(self) -> None:
        self.arrived: float | None = None  # when the first frame's first packet arrived, elapsed seconds
        self.stamp: int | None = None  # RTP time of the first frame, with which the recorded file begins
        self.reports = 0  # number of useful sender reports
        # When the first frame was made by the sender's clock, which may be set to anything: least and most,
        # Unix seconds of that clock; None without a report.
        self.by_sender: tuple[float, float] | None = None
        self._first = self._latest = 0  # RTP time, not wrapped
        self._quickest = (0.0, 0.0)  # arrival of the first frame had it been as quick, and its slack
        self._arrivals: list[float] = []  # arrival of the first frame had it been as quick as each
        self._report: tuple[float, float] | None = None  # the same of reports

    def note_frame(self, at: float, stamp: int) -> None:
        """Note the arrival of a frame's first packet, elapsed seconds, and its RTP time."""
        if self.arrived is None:
            self.arrived, self.stamp = at, stamp
            self._quickest = (at, 0.0)
            self._arrivals.append(at)
            self._first = self._latest = stamp
            return
        media = self._media_seconds(stamp)
        if abs(media) <= _WINDOW:
            self._quickest = min(self._quickest, (at - media, abs(media) * DRIFT_LIMIT), key=sum)
            if len(self._arrivals) < _MAX_ARRIVALS:
                self._arrivals.append(at - media)

    def note_report(self, at: float, report: SenderReport) -> None:
        """Note a sender report and when it arrived, elapsed seconds."""
        if self.arrived is None:
            return
        media = self._media_seconds(report.rtp)
        if abs(media) > _WINDOW:
            return
        self.reports += 1
        slack = abs(media) * DRIFT_LIMIT
        arrived = (at - media, slack)
        self._report = arrived if self._report is None else min(self._report, arrived, key=sum)
        low, high = report.unix - media - slack, report.unix - media + slack
        known = self.by_sender or (low, high)
        self.by_sender = min(low, known[0]), max(high, known[1])

    def first_frame(
        self, frame_delay: float, *, reliable: bool = False, clock: float | None = None
    ) -> RtpFirstFrame | None:
        """Return when the first frame was made, or None before it arrived.

        Args:
            frame_delay: Seconds that the quickest frame takes at most to be encoded and sent, beside
                `uneven`. Assumed.
            reliable: Whether the sender's reports are known to be of when frames were made. Many senders
                report when frames were sent, which must shift no frame.
            clock: Unix time at 0 elapsed seconds if the sender's clock is this computer's, or None.
        """
        if self.arrived is None:
            return None
        arrived, slack = self._quickest
        slack += STAMP_TOLERANCE
        pieces = [("arrivals of frames", arrived - slack - frame_delay - self.uneven, arrived + slack)]
        if reliable and self._report is not None:
            arrived, slack = self._report
            slack += STAMP_TOLERANCE
            pieces.append(("arrivals of sender reports", arrived - slack - REPORT_DELAY, arrived + slack))
        if reliable and clock is not None and self.by_sender is not None:
            low, high = (time - clock for time in self.by_sender)
            pieces.append(("times in sender reports", low - REPORT_TOLERANCE, high + REPORT_TOLERANCE))
        earliest, latest = max(low for _, low, _ in pieces), min(high for _, _, high in pieces)
        if earliest <= latest:
            return RtpFirstFrame(earliest, latest)
        words = tuple(
            f"{evidence} ({self._span(*span)}) and {other} ({self._span(*other_span)}) exclude one another"
            for index, (evidence, *span) in enumerate(pieces)
            for other, *other_span in pieces[index + 1 :]
            if max(span[0], other_span[0]) > min(span[1], other_span[1])
        )
        return RtpFirstFrame(min(low for _, low, _ in pieces), max(high for _, _, high in pieces), words)

    @property
    def uneven(self) -> float:
        """Seconds by which half of the frames were slower than the quickest: as much it may have waited too.

        Where a sender is too busy to send frames in time, no frame of it is known to have been quick.
        """
        return max(0.0, statistics.median(self._arrivals) - self._quickest[0]) if self._arrivals else 0.0

    def _span(self, low: float, high: float) -> str:
        arrived = self.arrived or 0.0
        return f"{low - arrived:+.3f} to {high - arrived:+.3f} s from the first frame's arrival"

    def _media_seconds(self, stamp: int) -> float:
        """Return the seconds from the first frame to an RTP time, which wraps after 13 hours."""
        apart = (stamp - self._latest) % _WRAP
        self._latest += apart - _WRAP if apart >= _HALF else apart
        return (self._latest - self._first) / CLOCK_RATE
