"""Shutdown of a Session: step after step under one deadline, whatever hangs."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from asynccam.errors import TimeoutError
from asynccam.runtime.tasks import TaskScope

_GRACE: Final = 0.1
"""Fraction of a step's time that is reserved for cancelled tasks to finish."""
_MAX_GRACE: Final = 2.0
"""Seconds."""


class Shutdown:
    """One deadline, ``timeout`` seconds from now, for several steps."""

    def __init__(self, timeout: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + timeout

    @property
    def remaining(self) -> float:
        """Seconds to the deadline."""
        return max(self._deadline - asyncio.get_running_loop().time(), 0.0)

    def reserve_after(self, seconds: float) -> float:
        """Return the seconds left to later steps if the next one gets ``seconds``, or 3/4 of all if less."""
        return max(self.remaining - seconds, self.remaining / 4)

    async def run(
        self, jobs: Mapping[str, Coroutine[Any, Any, object]], *, reserve: float = 0.0
    ) -> dict[str, Exception]:
        """Run jobs side by side until they end, or ``reserve`` seconds before the deadline.

        A job that is late is cancelled. One that ignores its cancellation is left running, and its error says
        so. Returns the errors by name.
        """
        seconds = max(self.remaining - reserve, 0.0)
        scope = TaskScope("end of session", on_failure=lambda name, error: None)
        tasks = {name: scope.spawn(job, name=name) for name, job in jobs.items()}
        grace = min(seconds * _GRACE, _MAX_GRACE)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds - grace)
        late = {name for name, task in tasks.items() if not task.done()}
        with suppress(TimeoutError):  # reported below, one by one
            await scope.aclose(timeout=grace)
        errors: dict[str, Exception] = {}
        for name, task in tasks.items():
            if not task.done():
                errors[name] = TimeoutError(f"{name} ignores its cancellation; it is left behind")
            elif name in late:
                errors[name] = TimeoutError(f"{name} did not end in time")
            elif not task.cancelled() and isinstance(error := task.exception(), Exception):
                errors[name] = error
        return errors
