"""Who has the camera: one job at a time, the others wait in line. Plain bookkeeping of one media server."""

import asyncio
from typing import Final, Literal, Protocol

from asynccam.errors import BusyError
from asynccam.runtime.timing import deadline

JobKind = Literal["image", "video", "udp"]

UDP: Final = "udp"


class Job(Protocol):
    """Something that has the camera, or waits for it."""

    @property
    def kind(self) -> JobKind:
        """What it captures."""
        ...

    @property
    def address(self) -> str:
        """Its client's IP address."""
        ...

    @property
    def ending(self) -> bool:
        """Whether it was told to end, and is about to give the camera back."""
        ...

    async def kill(self) -> None:
        """End it now and throw away what it has.

        Returns when the camera is free; harmless when it is over.
        """
        ...

    def extend(self, seconds: float) -> bool:
        """Let it go on for so many seconds from now; False if it has no such limit."""
        ...


class Desk:
    """Gives the camera to one job after another, in the order in which they asked.

    Args:
        waiting: Most jobs that may wait.

    Attributes:
        job: What has the camera, or None.
    """

    def __init__(self, waiting: int) -> None:
        self.job: Job | None = None
        self._most = waiting
        self._line: dict[Job, asyncio.Future[None]] = {}

    @property
    def streaming(self) -> bool:
        """Whether a UDP stream has the camera and goes on, which is what the original calls busy."""
        return self.job is not None and self.job.kind == UDP and not self.job.ending

    @property
    def taken(self) -> bool:
        """Whether anything has the camera and goes on, or waits for it."""
        return bool(self._line) or (self.job is not None and not self.job.ending)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._line)

    def ask(self, job: Job) -> bool:
        """Give the camera to a job, or a place at the end of the line; whether it has the camera.

        Raises:
            BusyError: Too many wait already.
        """
        if self.job is None:
            self.job = job
        elif self.job is not job and job not in self._line:
            if len(self._line) >= self._most:
                raise BusyError(f"{len(self._line)} requests wait for the camera already")
            self._line[job] = asyncio.get_running_loop().create_future()
        return self.job is job

    def ask_first(self, job: Job) -> None:
        """The same for the client who ends what has the camera: its place is before all others."""
        if self.job is None:
            self.job = job
        elif self.job is not job:
            self._line = {job: asyncio.get_running_loop().create_future(), **self._line}

    async def turn(self, job: Job, timeout: float) -> None:
        """Wait until a job that asked has the camera; a job that cannot wait has no place any more.

        Raises:
            TimeoutError: Its turn did not come.
        """
        if self.job is job:
            return
        try:
            async with deadline(timeout, "turn with the camera"):
                await self._line[job]
        except BaseException:
            self.leave(job)
            raise

    def leave(self, job: Job) -> None:
        """Take the camera, or the place in line, from a job that is done; harmless when it has neither."""
        self._line.pop(job, None)
        if self.job is job:
            self.job = next(iter(self._line), None)
            if self.job is not None:
                self._line.pop(self.job).set_result(None)
