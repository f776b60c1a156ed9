"""Presentation times of frames that are read in the order of decoding, of clocks that wrap and jump."""

import heapq
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from asynccam.recording.containers.reader import Intervals

TICKS: Final = 90_000  # of a second: ISO/IEC 13818-1, 2.4.3.7
_WRAP: Final = 1 << 33
_MAX_REORDERED: Final = 32
"""Frames that may be decoded before one that is shown earlier: H.264 and H.265 allow 16, as fields 32."""
_JITTER_SECONDS: Final = 0.05
_REORDERED_SECONDS: Final = 1.0
_JUMP: Final = 10.0
"""Seconds from which on a step is a jump of the clock, as for ffmpeg (dts_delta_threshold)."""
_LONGEST_STEP: Final = 3600.0  # seconds that no frame is shown for
_MAX_STEPS: Final = 256  # different steps that are counted apart


class MpegTsTimeline:
    """Sum of the times that frames are shown, from time stamps in ticks that wrap."""

    def __init__(self, *, keeps_times: bool = False) -> None:
        self._times: deque[int | None] | None = deque() if keeps_times else None
        self._has_begun = False
        self._decoded = 0
        self._waiting: list[tuple[int, int]] = []
        self._last_shown: int | None = None
        self._untimed = 0
        self._steps: Counter[int] = Counter()
        self._intervals = Intervals()
        self._seconds_of_jumps = 0.0
        self._long_steps = 0
        self._longest = 0.0
        self._shortest = _LONGEST_STEP
        self._count = 0
        self._sum = 0
        self._last_frames = 0
        self.jumps = 0  # steps in time that are not the stream's own

    def add(self, shown: int | None, decoded: int | None = None) -> None:
        """Add a frame's presentation time, None if it has none, and its decoding time where that differs."""
        if shown is None:
            self._untimed += 1
            return
        clock = shown if decoded is None else decoded
        if not self._has_begun:
            self._has_begun, self._decoded = True, clock
        step = _signed(clock - self._decoded)
        # Decoding times never go back, but for some jitter. Where a muxer leaves them out, times of
        # presentation stand for them, and those do.
        back = _JITTER_SECONDS if decoded is not None else _REORDERED_SECONDS
        if step < -back * TICKS or step > _JUMP * TICKS:
            self._note_jump(step)
        self._decoded += step
        later = _signed(shown - clock)
        if abs(later) > _JUMP * TICKS and self._times is None:
            later = 0  # implausible, so it adds no video; times that are kept stay as the stream has them
        at = self._decoded + later
        heapq.heappush(self._waiting, (at, self._untimed))
        self._untimed = 0
        if len(self._waiting) > _MAX_REORDERED:
            self._note_shown(*heapq.heappop(self._waiting))

    def restart(self) -> None:
        """Begin anew: the next frame's clock is unrelated to the last one's."""
        self._drain()
        self._has_begun = False

    def pop_times(self) -> Iterator[int | None]:
        """Yield the times of the next frames once, in shown order and without wraps; None if unknown."""
        while self._times:
            yield self._times.popleft()

    def finish(self) -> tuple[float | None, float | None]:
        """Return the seconds that the frames are shown, and the usual interval, where they are known."""
        self._drain()
        if self._times is not None:
            self._times.extend([None] * self._untimed)
        is_regular = self._long_steps > 1 and self._longest <= 1.5 * self._shortest
        if is_regular and self._long_steps * 2 >= self._count + self._long_steps:
            # They are this stream's own intervals.
            self._sum += round(self._seconds_of_jumps * TICKS)
            self._intervals.add(self._seconds_of_jumps / self._long_steps, self._long_steps)
            self._steps[round(self._seconds_of_jumps / self._long_steps * TICKS)] += self._long_steps
            self.jumps -= self._long_steps
            self._last_frames -= self._long_steps
        if not self._steps:
            return None, None
        usual = self._steps.most_common(1)[0][0]
        seconds = (self._sum + (self._last_frames + self._untimed) * usual) / TICKS
        return seconds, self._intervals.usual

    @property
    def longest(self) -> float | None:
        """Longest time between two frames in seconds, once it is finished; None if unknown."""
        return self._intervals.longest

    def _note_jump(self, step: int) -> None:
        # Before an outage, the first frame behind it may have been decoded already: times go on in order.
        if self._times is None or step < 0:
            self._drain()
        self.jumps += 1
        if _JUMP * TICKS < step <= _LONGEST_STEP * TICKS:
            self._long_steps += 1
            seconds = step / TICKS
            self._seconds_of_jumps += seconds
            self._longest, self._shortest = max(self._longest, seconds), min(self._shortest, seconds)

    def _drain(self) -> None:
        while self._waiting:
            self._note_shown(*heapq.heappop(self._waiting))
        if self._last_shown is not None:
            self._last_frames += 1  # the last frame of a stretch is shown as long as the others
        self._last_shown = None

    def _note_shown(self, at: int, untimed: int) -> None:
        if self._times is not None:
            self._times.extend([None] * untimed)
            self._times.append(at)
        step = 0 if self._last_shown is None else at - self._last_shown
        # More frames than can be reordered: a late one is shown at once.
        self._last_shown = at if self._last_shown is None else max(at, self._last_shown)
        if not 0 < step <= _JUMP * TICKS:
            return
        self._sum += step
        self._count += 1
        # Frames without a time are spread evenly between those with one.
        interval = step // (untimed + 1)
        self._intervals.add(interval / TICKS, untimed + 1)
        if interval in self._steps or len(self._steps) < _MAX_STEPS:
            self._steps[interval] += untimed + 1


def _signed(step: int) -> int:
    """Return the step between two clocks that wrap: the shorter way round."""
    return (step + _WRAP // 2) % _WRAP - _WRAP // 2
