"""Who has the camera: one job at a time, the others wait in line. Plain bookkeeping of one media server."""

import asyncio
from collections import deque
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

    async def end(self) -> None:
        """End it now, as a kill does; returns when the camera is free. Harmless when it is over."""
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
        self._line: deque[tuple[Job, asyncio.Future[None]]] = deque()

    @property
    def streaming(self) -> bool:
        """Whether a UDP stream has the camera, which is what the original calls busy."""
        return self.job is not None and self.job.kind == UDP

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._line)

    def take(self, job: Job) -> bool:
        """Give the camera to a job if nobody has it and nobody waits; whether it got it."""
        if self.job is not None or self._line:
            return False
        self.job = job
        return True

    async def queue(self, job: Job, timeout: float, *, first: bool = False) -> None:
        """Wait for the camera.

        Args:
            job: Who waits.
            timeout: Seconds it may take.
            first: Go before all who wait, as the client does who ended what had the camera.

        Raises:
            BusyError: Too many wait already.
            TimeoutError: Its turn did not come.
        """
        if self.take(job):
            return
        if len(self._line) >= self._most and not first:
            raise BusyError(f"{len(self._line)} requests wait for the camera already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (job, turn)
        if first:
            self._line.appendleft(entry)
        else:
            self._line.append(entry)
        try:
            async with deadline(timeout, "turn with the camera"):
                await turn
        except BaseException:
            if entry in self._line:
                self._line.remove(entry)
            self.release(job)  # its turn may have come in this very moment
            raise

    def release(self, job: Job) -> None:
        """Take the camera from a job that is done with it, and give it to the next; harmless otherwise."""
        if self.job is not job:
            return
        self.job = None
        while self._line:
            following, turn = self._line.popleft()
            if not turn.done():
                self.job = following
                turn.set_result(None)
                return


