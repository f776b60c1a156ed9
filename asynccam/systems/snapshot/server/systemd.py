"""Services that hold a device: stopped for a capture, and always started again.

Before a service is stopped its name goes into a journal on disk, and leaves it only when the service
runs again. So whatever ends the server in between, the next one finds there what it owes.
See docs/protocols/snapshot.md.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from asynccam.errors import AsynccamError, DeviceError, RecordingError, StorageError, UsageError
from asynccam.outside import read_json
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.runtime.disk import atomic_write, on_disk, remove_unfinished, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.backends.base import output_tail
from asynccam.systems.snapshot.server.events import ServiceRestored, ServiceTrouble
from asynccam.systems.snapshot.server.settings import check_service

_LOG = logging.getLogger(__name__)

SYSTEMCTL: Final = ("sudo", "systemctl")
_UNITS: Final = (
    *(".service", ".socket", ".target", ".device", ".mount", ".automount"),
    *(".swap", ".timer", ".path", ".slice", ".scope"),
)
"""Endings of units' names, see ``systemd.unit(5)``; a name without one is a service's."""
_GIVE_UP: Final = StopDeadlines(interrupt=1.0, terminate=1.0, kill=5.0)


class _State(Enum):
    UP = "up"
    DOWN = "down"
    UNSURE = "unsure"  # a stop or a restart failed, or another server was killed in between


class _Service:
    """One service.

    Attributes:
        name: Its name.
        users: Captures that need it stopped.
        state: What it is known to be; all but ``UP`` are in the journal.
        turn: Held while it is stopped or restarted.
        mending: Whether a task tries to restart it.
    """

    def __init__(self, name: str, state: _State) -> None:
        self.name = name
        self.users = 0
        self.state = state
        self.turn = asyncio.Lock()
        self.mending = False


class Services:
    """Stops and restarts systemd services, counting who needs them stopped.

    An async context manager: entered, it restarts what a killed server left stopped; left, it restarts
    what is still stopped. A restart that fails is tried again until it succeeds.

    Args:
        journal: File that names the services that are stopped at this moment.
        command: What comes before ``stop NAME`` and ``restart NAME``; never goes through a shell.
        timeout: Seconds for one call of it.
        events: Where trouble is told, or None.
        backoff: The waits between two tries to restart a service.

    Attributes:
        journal: The file.
        events: Where trouble is told, or None.
    """

    def __init__(
        self,
        journal: Path,
        *,
        command: Sequence[str] = SYSTEMCTL,
        timeout: float = 100.0,
        events: EventHub | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        if not command or timeout <= 0:
            raise UsageError("services need a command, and more than 0 s")
        self.events = events
        self.journal = journal
        self._command = tuple(command)
        self._timeout = timeout
        self._backoff = backoff or Backoff(initial=1.0, maximum=60.0)
        self._services: dict[str, _Service] = {}
        self._written = asyncio.Lock()
        self._scope = TaskScope("snapshot-services")

    @property
    def stopped(self) -> tuple[str, ...]:
        """The services that are stopped at this moment, or not known to run."""
        return tuple(sorted(one.name for one in self._services.values() if one.state is not _State.UP))

    @asynccontextmanager
    async def interrupted(self, name: str) -> AsyncIterator[None]:
        """Keep a service stopped for the length of the block.

        The first of several blocks stops it and the last one restarts it. A cancelled block waits
        for both commands. That a restart fails is told as `ServiceTrouble`, not raised: the picture
        is there all the same.

        Args:
            name: The service; ``""`` for none.

        Raises:
            DeviceError: It cannot be stopped; it is restarted all the same.
            StorageError: The journal cannot be written; nothing was stopped.
            UsageError: That is no service's name.
        """
        if not name:
            yield
            return
        service = await self._acquire(name)
        try:
            yield
        finally:
            await finish(self._release(service))

    @asynccontextmanager
    async def all_interrupted(self, names: Iterable[str]) -> AsyncIterator[Mapping[str, AsynccamError]]:
        """Keep several services stopped, as `interrupted` does; those that cannot be, and why.

        Args:
            names: The services, each once; all are stopped side by side, and restarted so.
        """
        held: list[_Service] = []
        refused: dict[str, AsynccamError] = {}

        async def acquire(name: str) -> None:
            try:
                held.append(await self._acquire(name))
            except AsynccamError as error:
                refused[name] = error

        try:
            await self._together([acquire(name) for name in names])
            yield refused
        finally:
            await finish(self._together([self._release(service) for service in held]))

    async def aclose(self) -> None:
        """Restart what is still stopped; harmless when called twice."""
        await self._scope.aclose(timeout=self._timeout + 10)
        owed = [one for one in self._services.values() if one.state is not _State.UP]
        async with TaskScope("snapshot-services-end") as scope:
            jobs = {one.name: self._restart(one) for one in owed}
            await finish(scope.gather(jobs, name="restart"))

    async def __aenter__(self) -> "Services":
        await on_disk(remove_unfinished, self.journal)
        for name in await on_disk(_read, self.journal):
            service = self._services[unit_name(name)] = _Service(name, _State.UNSURE)
            self._mend(service, at_once=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await finish(self.aclose())

    # -- within ---------------------------------------------------------------------------------

    async def _acquire(self, name: str) -> _Service:
        try:
            service = self._services.setdefault(unit_name(check_service(name)), _Service(name, _State.UP))
        except ValueError as error:
            raise UsageError(f"{name!r}: {error}") from error
        service.users += 1
        try:
            async with service.turn:
                if service.state is not _State.DOWN:
                    await finish(self._stop(service))
        except BaseException:
            await finish(self._release(service))
            raise
        return service

    async def _together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run jobs side by side; cancelled, cancel them and wait for their ends, however long."""
        tasks = {self._scope.spawn(job, name="service") for job in jobs}
        if not tasks:
            return
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await finish(asyncio.wait(tasks))
            raise
        for task in tasks:
            task.result()

    async def _stop(self, service: _Service) -> None:
        before, service.state = service.state, _State.UNSURE
        try:
            await self._write()
        except StorageError:
            service.state = before
            raise
        try:
            await self._call("stop", service.name)
        except AsynccamError as error:
            self._trouble(service, f"cannot be stopped: {error}")
            raise DeviceError(f"service {service.name} cannot be stopped: {error}") from error
        service.state = _State.DOWN

    async def _release(self, service: _Service) -> None:
        service.users -= 1
        async with service.turn:
            if service.users == 0 and service.state is not _State.UP and not await self._restart(service):
                self._mend(service)

    async def _restart(self, service: _Service) -> bool:
        """Try to restart a service; whether it runs."""
        service.state = _State.UNSURE
        try:
            await self._call("restart", service.name)
        except AsynccamError as error:
            self._trouble(service, f"cannot be restarted: {error}")
            return False
        service.state = _State.UP
        try:
            await self._write()
        except StorageError as error:  # costs no more than one restart too many, next time
            self._trouble(service, f"runs, but cannot be taken out of the journal: {error}")
        return True

    def _mend(self, service: _Service, *, at_once: bool = False) -> None:
        if not service.mending:
            service.mending = True
            self._scope.spawn(self._mended(service, at_once=at_once), name=f"mend {service.name}")

    async def _mended(self, service: _Service, *, at_once: bool) -> None:
        try:
            for wait in self._backoff.delays():
                if not at_once:
                    await asyncio.sleep(wait)
                at_once = False
                async with service.turn:
                    if service.state is _State.UP:  # a capture has restarted it meanwhile
                        break
                    # Whoever needs it stopped right now restarts it afterwards.
                    if service.users == 0 and await finish(self._restart(service)):
                        break
            if self.events is not None:
                self.events.emit(ServiceRestored(service=service.name))
        finally:
            service.mending = False

    async def _write(self) -> None:
        async with self._written:
            text = json.dumps({"stopped": self.stopped})
            await on_disk(lambda: atomic_write(self.journal, text.encode(), mode=0o644))

    async def _call(self, action: Literal["stop", "restart"], name: str) -> None:
        """Run the command to its end.

        Raises:
            RecordingError: It cannot be started, or fails.
            TimeoutError: It takes too long.
        """
        process = await LaunchProcess.start([*self._command, action, name], lambda _: None)
        try:
            async with deadline(self._timeout, f"end of {action} {name}"):
                code = await process.wait()
        finally:
            # A sudo that hangs belongs to root and cannot be ended by anybody else.
            with suppress(PermissionError):
                await process.stop(_GIVE_UP)
        if code:
            raise RecordingError(f"{self._command[0]} ended with {code}{output_tail(process.output)}")

    def _trouble(self, service: _Service, error: str) -> None:
        _LOG.warning("service %s %s", service.name, error)
        if self.events is not None:
            self.events.emit(ServiceTrouble(service=service.name, error=error))


def unit_name(name: str) -> str:
    """What systemd takes a name for, so that ``streamer`` and ``streamer.service`` are counted as one."""
    return name if name.endswith(_UNITS) else f"{name}.service"


def _read(journal: Path) -> tuple[str, ...]:
    """The services a journal names; blocking."""
    with storage_errors("read", journal):
        try:
            text = journal.read_text("utf-8")
        except FileNotFoundError:
            return ()
        except UnicodeDecodeError:
            text = ""
    try:
        names = read_json(text)["stopped"]
        return tuple(check_service(name) for name in names if isinstance(name, str) and name)
    except (ValueError, TypeError, LookupError) as error:
        # It is written in one step, so this is somebody else's doing, and no reason not to serve.
        _LOG.warning("%s does not say which services are stopped: %r", journal, error)
        return ()
