"""How the block of a Session ends: what is closed, and which exceptions leave it."""

import asyncio
import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from asynccam.errors import StateError
from asynccam.runtime.tasks import finish

_LOG = logging.getLogger(__name__)


class Block(ABC):
    """An ``async with`` block that can be ended from inside, as a task group can.

    One exception leaves the block as it is, several leave as an ``ExceptionGroup``; of a cancelled
    block the cancellation leaves, and everything else is logged.
    """

    def __init__(self) -> None:
        self._owner: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._closed = False
        self._interrupted = False
        self._failures: list[Exception] = []

    @abstractmethod
    async def _close(self) -> None:
        """End everything the block owns; what fails is put to ``_failures``."""

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            raise StateError("a session is entered once")
        self._owner = asyncio.current_task()
        # As in asyncio.timeout: a task may have been cancelled before, and gone on all the same.
        self._cancelling = 0 if self._owner is None else self._owner.cancelling()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        leaving: BaseException | None = error
        try:
            await finish(self._close())
        except asyncio.CancelledError as late:
            leaving = late
        assert self._owner is not None
        ours = self._interrupted and self._owner.uncancel() <= self._cancelling
        if isinstance(leaving, asyncio.CancelledError) and ours:
            leaving = None  # it was this session's own way of ending the block
        errors = [failure for failure in self._failures if failure is not leaving]
        if leaving is not None and not isinstance(leaving, Exception):
            for failure in errors:
                _LOG.error("while the session was closed", exc_info=failure)
            errors = []
        if leaving is error and error is not None and not errors:
            return
        everything = errors if leaving is None else [leaving, *errors]
        if len(everything) == 1:
            raise everything[0]
        if everything:
            raise BaseExceptionGroup("several things failed in the session", everything)

    def _check_open(self) -> None:
        if self._owner is None or self._closed:
            raise StateError("a session works inside its 'async with' block")

    def _interrupt(self, error: Exception) -> None:
        """End the block by cancelling it, as a task group does; the error is raised at its end."""
        self._failures.append(error)
        if not self._closed and not self._interrupted and self._owner is not None:
            self._interrupted = True
            self._owner.cancel()
