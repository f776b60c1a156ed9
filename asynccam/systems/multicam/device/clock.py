"""NTP time, by which a MultiCam device starts. See docs/protocols/multicam.md, Clock."""

import logging
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.model.info import ClockOffset
from asynccam.net.clock import query_sntp
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock
from asynccam.systems.multicam.models import MAX_ROUND_TRIP, NTP_PORT, NTP_SERVER

_LOG = logging.getLogger(__name__)
_RETRY_INTERVAL: Final = 15.0
"""Seconds until a time server that did not answer is queried again."""
_VALID_INTERVALS: Final = 4
"""An offset is used for this many intervals; a quartz clock drifts some milliseconds in that time."""


class NtpOffset:
    """Offset of a time server's clock from this computer's, measured every ``interval`` seconds.

    An async context manager; pass it to `MultiCamDevice` as ``clock_offset``.

    Attributes:
        latest: The latest measurement; None before there is one.
    """

    def __init__(
        self,
        host: str = NTP_SERVER,
        port: int = NTP_PORT,
        *,
        interval: float = 300.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._host = host
        self._port = port
        self._interval = interval
        self._clock = clock
        self._measured_at = 0.0
        self._failing = False
        self._scope = TaskScope("multicam-ntp")
        self.latest: ClockOffset | None = None

    def __call__(self) -> float | None:
        """Return time server minus computer in seconds; None without a recent measurement."""
        if self.latest is None:
            return None
        age = self._clock.monotonic() - self._measured_at
        return self.latest.offset if age <= _VALID_INTERVALS * self._interval else None

    async def __aenter__(self) -> "NtpOffset":
        self._scope.spawn(self._measure(), name="measure")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._scope.aclose()

    async def _measure(self) -> None:
        while True:
            try:
                self.latest = await query_sntp(
                    self._host, self._port, max_round_trip=MAX_ROUND_TRIP, clock=self._clock
                )
            except AsynccamError as error:
                if not self._failing:  # Once per outage.
                    _LOG.warning("no time from %s: %s", self._host, error)
                self._failing = True
                await self._clock.sleep(min(_RETRY_INTERVAL, self._interval))
            else:
                self._measured_at = self._clock.monotonic()
                self._failing = False
                await self._clock.sleep(self._interval)
