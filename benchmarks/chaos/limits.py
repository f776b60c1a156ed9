"""How long the takes and resumings of a round may last, all in seconds."""

from typing import Final

from asynccam.take import TakeLimits

LIMITS: Final = TakeLimits(
    clock_samples=8,
    clock_interval=1.0,
    clock_timeout=2.0,
    arm_timeout=10.0,
    start_timeout=8.0,
    start_answer_grace=1.0,
    late_start_grace=0.5,
    stop_timeout=10.0,
    status_timeout=2.0,
    stall_timeout=5.0,
    verify_timeout=20.0,
    cancel_timeout=20.0,
)
CONNECT_TIMEOUT: Final = 5.0
SHUTDOWN_TIMEOUT: Final = 10.0
_SLACK: Final = 20.0
"""For a slow computer: interpreters that start, files that are synced, processes that end."""
_SHUTDOWN_OF_COMMAND: Final = 60.0
_CONNECT_OF_COMMAND: Final = 15.0


def of_take(start_in: float, duration: float, files: int, *, command: bool) -> float:
    """The sum of the limits of all steps, one after the other."""
    connect = _CONNECT_OF_COMMAND if command else CONNECT_TIMEOUT
    before = connect + LIMITS.clock_timeout + LIMITS.arm_timeout
    recording = start_in + max(duration, LIMITS.start_answer_grace)
    stop = LIMITS.start_timeout + LIMITS.stop_timeout + LIMITS.status_timeout + LIMITS.clock_timeout
    return before + recording + stop + _home(files) + of_end(command=command)


def of_end(*, command: bool) -> float:
    """From the moment at which a controller is told to end."""
    shutdown = _SHUTDOWN_OF_COMMAND if command else SHUTDOWN_TIMEOUT
    disarm = LIMITS.stop_timeout
    return LIMITS.cancel_timeout + disarm + shutdown + _SLACK


def of_resuming(files: int) -> float:
    """Of ``asynccam resume``."""
    reach = LIMITS.arm_timeout
    stop = 2 * LIMITS.stop_timeout + LIMITS.status_timeout + LIMITS.late_start_grace
    return reach + stop + _home(files) + _SHUTDOWN_OF_COMMAND + _SLACK


def _home(files: int) -> float:
    return files * LIMITS.verify_timeout + 2 * LIMITS.stall_timeout
