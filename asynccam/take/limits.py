"""Timeouts and concurrency limits of a take."""

from dataclasses import dataclass, fields

from asynccam.errors import UsageError


@dataclass(frozen=True, slots=True)
class TakeLimits:
    """Bounds of everything a take waits for; all times in seconds.

    Attributes:
        clock_samples: Round trips for the first measurement of each clock; only 8 where they are slow.
        clock_interval: Between two measurements of a clock while cameras record; of the time server's also
            while the take is armed.
        clock_timeout: For measuring all clocks, and for asking the NTP server.
        arm_timeout: For arming one camera.
        start_timeout: For one camera to accept the start once it has been sent.
        start_tolerance: How late after T0 a start may leave this computer; a camera whose start leaves later
            is incomplete. A running loop is late by some milliseconds, by tenths of a second only if
            something blocks it, and a device that starts by its own clock may be late by 0.1 s.
        start_answer_grace: How long past T0 the start waits for cameras that have not answered; they may
            still answer later, up to ``start_timeout``. A camera that has stopped waits as long for
            the others before its files are downloaded.
        late_start_grace: How long past T0 a scheduled start that was cancelled may still begin.
        stop_timeout: For one camera to stop; phones pack the file before they answer. Where the stop fails,
            all that follows (status, second stop, list of files) gets what is left of it, and no more than
            ``status_timeout`` beyond it.
        status_timeout: For the status of a camera after an error.
        stall_timeout: For a transfer without one new byte. There is no total timeout.
        verify_timeout: For checking one file.
        cancel_timeout: For stopping and collecting after a cancellation, all together.
        transfers: Maximum number of concurrent downloads.
        measurements: Maximum number of clocks measured concurrently; more of them disturb one another.
    """

    clock_samples: int = 32
    clock_interval: float = 60.0
    clock_timeout: float = 10.0
    arm_timeout: float = 30.0
    start_timeout: float = 60.0
    start_tolerance: float = 0.25
    start_answer_grace: float = 5.0
    late_start_grace: float = 1.0
    stop_timeout: float = 75.0
    status_timeout: float = 10.0
    stall_timeout: float = 630.0
    verify_timeout: float = 120.0
    cancel_timeout: float = 120.0
    transfers: int = 16
    measurements: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise UsageError(f"{field.name} must be > 0, not {value}")
