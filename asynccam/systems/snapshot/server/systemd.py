"""systemd services that hold a device: stopped for a capture, and always started again.

Before a service is stopped its name is written to a journal on disk, and removed only when the service runs
again: if the server is killed in between, the next one restarts it. See docs/protocols/snapshot.md.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal

from asynccam.errors import AsynccamError, DeviceError, RecordingError, StorageError, UsageError
from asynccam.outside import read_json
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.runtime.disk import atomic_write, on_disk, remove_unfinished, storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff, Retrier
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.backends import output_tail
from asynccam.systems.snapshot.server.events import ServiceRestored, ServiceTrouble
from asynccam.systems.snapshot.server.settings import check_service, unit_name

_LOG = logging.getLogger(__name__)

SYSTEMCTL: Final = ("sudo", "systemctl")
_KILL: Final = StopDeadlines(interrupt=1.0, terminate=1.0, kill=5.0)


class _ServiceState(Enum):
    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"  # a stop or a restart failed, or another server was killed in between


@dataclass(eq=False, slots=True)
class _Service:
    """One service, ``users`` captures that need it stopped; all states but ``UP`` are in the journal."""

    name: str
    state: _ServiceState
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    retrying: bool = False


class Services:
    """Stops and restarts systemd services, and counts the captures that need them stopped.

    An async context manager: entering restarts services that a killed server left stopped, leaving restarts
    those that are still stopped. A restart that fails is retried until it succeeds.

    Args:
        journal: File with the names of the services that are stopped.
        command: Precedes ``stop NAME`` and ``restart NAME``; not run by a shell.
        timeout: Seconds for one command.
        events: Where `ServiceTrouble` and `ServiceRestored` are emitted, or None.
        backoff: Delays between attempts to restart a service.
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
            raise UsageError("command must not be empty, and timeout must be > 0 s")
        self.events = events
        self.journal = journal
        self._command = tuple(command)
        self._timeout = timeout
        self._backoff = backoff or Backoff(initial=1.0, maximum=60.0)
        self._services: dict[str, _Service] = {}
        self._journal_lock = asyncio.Lock()
        self._scope = TaskScope("snapshot-services")

    @property
    def stopped(self) -> tuple[str, ...]:
        """Services that are stopped, or not known to run."""
        return tuple(sorted(service.name for service in self._not_up()))

    def _not_up(self) -> list[_Service]:
        return [service for service in self._services.values() if service.state is not _ServiceState.UP]

    @asynccontextmanager
    async def interrupted(self, name: str) -> AsyncIterator[None]:
        """Keep a service stopped within the block; ``""`` stands for no service.

        The first of several blocks stops it, and the last one restarts it. A cancelled block waits for both
        commands. A restart that fails is reported as `ServiceTrouble`, not raised: there is a picture.

        Raises:
            DeviceError: It cannot be stopped; it is restarted all the same.
            StorageError: The journal cannot be written; nothing was stopped.
            UsageError: The name is invalid.
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
        """Keep several services stopped, concurrently, as `interrupted`; yield the errors by name."""
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
        """Restart services that are still stopped; may be called twice."""
        await self._scope.aclose(timeout=self._timeout + 10)
        async with TaskScope("snapshot-services-end") as scope:
            jobs = {service.name: self._restart(service) for service in self._not_up()}
            await finish(scope.gather(jobs, name="restart"))

    async def __aenter__(self) -> "Services":
        await on_disk(remove_unfinished, self.journal)
        for name in await on_disk(_read, self.journal):
            service = self._services[unit_name(name)] = _Service(name, _ServiceState.UNKNOWN)
            self._retry_restart(service, at_once=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await finish(self.aclose())

    async def _acquire(self, name: str) -> _Service:
        try:
            service = self._services.setdefault(
                unit_name(check_service(name)), _Service(name, _ServiceState.UP)
            )
        except ValueError as error:
            raise UsageError(f"{name!r}: {error}") from error
        service.users += 1
        # Also a cancellation: the stop may have been carried out.
        async with finish_on_error(lambda: self._release(service)), service.lock:
            if service.state is not _ServiceState.DOWN:
                await finish(self._stop(service))
        return service

    async def _together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run jobs concurrently; if cancelled, cancel them and wait until they have ended."""
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
        before, service.state = service.state, _ServiceState.UNKNOWN
        try:
            await self._write()  # first: if this process is killed, the next one knows what to restart
        except StorageError:
            service.state = before
            raise
        try:
            await self._call("stop", service.name)
        except AsynccamError as error:
            self._report_trouble(service, f"cannot be stopped: {error}")
            raise DeviceError(f"service {service.name} cannot be stopped: {error}") from error
        service.state = _ServiceState.DOWN

    async def _release(self, service: _Service) -> None:
        service.users -= 1
        async with service.lock:
            needed = service.users == 0 and service.state is not _ServiceState.UP
            if needed and not await self._restart(service):
                self._retry_restart(service)

    async def _restart(self, service: _Service) -> bool:
        """Try to restart a service; return whether it runs."""
        service.state = _ServiceState.UNKNOWN
        try:
            await self._call("restart", service.name)
        except AsynccamError as error:
            self._report_trouble(service, f"cannot be restarted: {error}")
            return False
        service.state = _ServiceState.UP
        try:
            await self._write()
        except StorageError as error:  # costs one unnecessary restart next time
            self._report_trouble(service, f"runs, but cannot be removed from the journal: {error}")
        return True

    def _retry_restart(self, service: _Service, *, at_once: bool = False) -> None:
        if not service.retrying:
            service.retrying = True
            retrier = Retrier(replace(self._backoff, immediate=True) if at_once else self._backoff)
            self._scope.spawn(self._restart_until_up(service, retrier), name=f"restart {service.name}")

    async def _restart_until_up(self, service: _Service, retrier: Retrier) -> None:
        try:
            while True:
                await retrier.wait_after_failure()
                async with service.lock:
                    if service.state is _ServiceState.UP:  # a capture has restarted it meanwhile
                        break
                    # A capture that needs it stopped now restarts it afterwards.
                    if service.users == 0 and await finish(self._restart(service)):
                        break
            if self.events is not None:
                self.events.emit(ServiceRestored(service=service.name))
        finally:
            service.retrying = False

    async def _write(self) -> None:
        async with self._journal_lock:
            text = json.dumps({"stopped": self.stopped})
            await on_disk(lambda: atomic_write(self.journal, text.encode(), mode=0o644))

    async def _call(self, action: Literal["stop", "restart"], name: str) -> None:
        """Run the command.

        Raises `RecordingError` if it cannot be started or failed, `TimeoutError` if it took too long.
        """
        process = await LaunchProcess.start([*self._command, action, name], lambda _: None)
        try:
            async with deadline(self._timeout, f"end of {action} {name}"):
                code = await process.wait()
        finally:
            # A sudo that hangs belongs to root, and only root can kill it.
            with suppress(PermissionError):
                await process.stop(_KILL)
        if code:
            raise RecordingError(f"{self._command[0]} ended with {code}{output_tail(process.output)}")

    def _report_trouble(self, service: _Service, error: str) -> None:
        _LOG.warning("service %s %s", service.name, error)
        if self.events is not None:
            self.events.emit(ServiceTrouble(service=service.name, error=error))


def _read(journal: Path) -> tuple[str, ...]:
    """Return the services in a journal; blocking."""
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
        # It is written atomically: another program has changed it, which must not prevent the start.
        _LOG.warning("%s does not say which services are stopped: %r", journal, error)
        return ()
