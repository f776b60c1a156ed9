"""The process that records: a program around the library, or the command. Its clocks can be set.

``python -m benchmarks.chaos.controller host JOB.json`` runs a take in a host. ``... command record ...`` is
the command with the limits of `benchmarks.chaos.limits`, as a person has no way to shorten them.
"""

import asyncio
import faulthandler
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.chaos.clocks import Clocks

faulthandler.enable()  # for SIGABRT
Clocks().install()

from asynccam import Session  # noqa: E402 - after its clocks
from asynccam.errors import AsynccamError  # noqa: E402
from asynccam.model.camera import Camera  # noqa: E402
from asynccam.model.credentials import Credentials  # noqa: E402
from asynccam.recording import verify_file  # noqa: E402
from asynccam.take import Take, TakeLimits  # noqa: E402
from benchmarks.chaos import limits  # noqa: E402
from benchmarks.chaos.hosts import HOSTS, Host, SiblingError, aborted  # noqa: E402

_NOBODY = 3
_INTERRUPTED = 130


class Program:
    """A program around the library.

    Args:
        job: What it is to do: see `benchmarks.chaos.round`.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._take: Take | None = None
        self._told = asyncio.Event()

    async def run(self) -> int:
        """The take in its host; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), self._read)
        loop.add_signal_handler(signal.SIGQUIT, show_tasks)
        try:
            return await self._run()
        finally:
            loop.remove_reader(sys.stdin.fileno())

    async def _run(self) -> int:
        name = self._job["host"]
        if name == "left session":
            await self._leave_session()
        elif name == "aborted":
            await self._in(aborted(lambda: self._take))
        else:
            await self._in(HOSTS[name])
        return 0 if self._take is not None else _NOBODY

    def _read(self) -> None:
        if not os.read(sys.stdin.fileno(), 64):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        else:
            self._told.set()

    async def _in(self, host: Host) -> None:
        """The session stands around the host, or in it."""
        if self._job["opens"]:

            async def whole() -> None:
                async with self._opened() as session:
                    await self._record(session, None)

            await host(whole, self._told)
            return
        async with self._session() as session:
            cameras = await self._connect(session)
            if cameras:
                await host(lambda: self._record(session, cameras), self._told)

    async def _leave_session(self) -> None:
        """Leave the session while its take runs."""
        tasks: list[asyncio.Future[Any]] = []
        try:
            async with self._session() as session:
                cameras = await self._connect(session)
                if cameras:
                    tasks.append(asyncio.ensure_future(self._record(session, cameras)))
                    watch = asyncio.ensure_future(self._told.wait())
                    await asyncio.wait({*tasks, watch}, return_when=asyncio.FIRST_COMPLETED)
                    watch.cancel()
        finally:
            # Also when this program is interrupted: the session has ended the take by now.
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for one in results:
            if isinstance(one, BaseException):
                raise one

    async def _record(self, session: Session, cameras: list[Camera] | None) -> None:
        if cameras is None and not session.cameras:
            return
        job = self._job
        take = self._take = session.new_take(
            cameras, job["directory"], name="take", limits=limits.LIMITS, verify=verify_file
        )
        await take.run(duration=job["duration"], start_in=job["start_in"])

    def _session(self) -> Session:
        return Session(shutdown_timeout=limits.SHUTDOWN_TIMEOUT, poll_interval=1.0)

    def _opened(self) -> Any:
        return Session.open(
            *self._job["addresses"],
            credentials=Credentials(token=self._job["token"]),
            timeout=limits.CONNECT_TIMEOUT,
            mdns=False,
            shutdown_timeout=limits.SHUTDOWN_TIMEOUT,
            poll_interval=1.0,
        )

    async def _connect(self, session: Session) -> list[Camera]:
        results = await session.connect_each(
            self._job["addresses"],
            credentials=Credentials(token=self._job["token"]),
            timeout=limits.CONNECT_TIMEOUT,
        )
        for one in results:
            if isinstance(one, Exception) and not isinstance(one, AsynccamError):
                raise one
        return [one for one in results if isinstance(one, Camera)]


def say_up() -> None:
    """Tell that all is imported, and that signals are heeded from here on."""
    Path(os.environ["CHAOS_UP"]).touch()


def show_tasks() -> None:
    """Print where every task of the running loop stands."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=1)


def of_asynccam(error: BaseException) -> bool:
    """Return whether an exception is one that asynccam or the host may raise."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(of_asynccam, error.exceptions))
    return isinstance(error, (AsynccamError, SiblingError, asyncio.CancelledError, KeyboardInterrupt))


def host(job: dict[str, Any]) -> int:
    """Run the program to its end and say how that was."""
    logging.basicConfig(level=logging.WARNING)
    told = {"ended": "returned"}
    try:
        say_up()
        code = asyncio.run(Program(job).run())
    except KeyboardInterrupt:
        told["ended"], code = "KeyboardInterrupt", _INTERRUPTED
    except (Exception, asyncio.CancelledError) as error:
        # A timeout of the host is its own, and Python's.
        if not of_asynccam(error) and not (type(error) is TimeoutError and "timeout" in job["host"]):
            raise
        told["ended"], code = type(error).__name__, 0
    print(json.dumps(told), flush=True)
    return code


def command(arguments: list[str]) -> None:
    """Be the command."""
    from asynccam.cli.main import run

    shortened = tuple(getattr(limits.LIMITS, name) for name in TakeLimits.__dataclass_fields__)
    TakeLimits.__init__.__defaults__ = shortened
    sys.argv[1:] = arguments
    say_up()
    run()


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "command":
        command(rest)
    sys.exit(host(json.loads(Path(rest[0]).read_text())))
