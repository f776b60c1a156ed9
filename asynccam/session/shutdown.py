"""The end of a Session: step after step under one deadline, whatever hangs."""

import asyncio
import math
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from asynccam.errors import TimeoutError
from asynccam.runtime.tasks import TaskScope

_GRACE: Final = 0.1
"""Part of a step's time that what was cancelled has to heed it."""
_LONGEST_GRACE: Final = 2.0
"""Seconds of it at most."""


class Shutdown:
    """One deadline for several steps.

    Args:
        seconds: How long all of it may take; None for as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self._until = math.inf if seconds is None else asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds to the deadline."""
        return max(self._until - asyncio.get_running_loop().time(), 0.0)

    def beyond(self, seconds: float) -> float:
        """What is left to others when a step takes so many seconds, and never more than most of the time."""
        return max(self.left - seconds, self.left / 4)

    async def step(
        self, jobs: Mapping[str, Coroutine[Any, Any, object]], *, leaving: float = 0.0
    ) -> dict[str, Exception]:
        """Run jobs side by side, each to its end or to the end of the time.

        What does not end in time is cancelled, and what does not heed that is left behind: then its
        error says so.

        Args:
            jobs: By name.
            leaving: Seconds to leave to the steps that follow.

        Returns:
            What failed, by name.
        """
        seconds = max(self.left - leaving, 0.0)
        scope = TaskScope("end of session", on_failure=lambda name, error: None)
        tasks = {name: scope.spawn(job, name=name) for name, job in jobs.items()}
        grace = min(seconds * _GRACE, _LONGEST_GRACE)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=None if seconds == math.inf else seconds - grace)
        late = {name for name, task in tasks.items() if not task.done()}
        with suppress(TimeoutError):  # told below, one by one
            await scope.aclose(timeout=grace)
        errors: dict[str, Exception] = {}
        for name, task in tasks.items():
            if not task.done():
                errors[name] = TimeoutError(f"{name} does not heed its cancellation; it is left behind")
            elif name in late:
                errors[name] = TimeoutError(f"no end of {name} in time")
            elif not task.cancelled() and isinstance(error := task.exception(), Exception):
                errors[name] = error
        return errors
