"""Programs of every kind that run a take, and end it in their own way when they are told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
from aiohttp import ClientSession, web
from starlette.responses import StreamingResponse

from asynccam.take import Take

Run = Callable[[], Awaitable[None]]
Host = Callable[[Run, asyncio.Event], Awaitable[None]]
"""Runs the take; when the event is set, the take is cancelled."""


class SiblingError(Exception):
    """Error of another part of the program."""


async def plain(run: Run, told: asyncio.Event) -> None:
    await _cancelled(run, told, ())


async def cancelled_twice(run: Run, told: asyncio.Event) -> None:
    await _cancelled(run, told, (0.0, 0.1))


async def _cancelled(run: Run, told: asyncio.Event, again: tuple[float, ...]) -> None:
    task = asyncio.ensure_future(run())
    watch = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            for wait in again:
                await asyncio.sleep(wait)
                task.cancel()
        await task
    except asyncio.CancelledError:
        # The program's own end, by Ctrl-C.
        task.cancel()
        await asyncio.wait({task})
        raise
    finally:
        watch.cancel()


async def timeout(run: Run, told: asyncio.Event) -> None:
    async with _when(told) as acts, asyncio.timeout(None) as limit:
        acts.append(lambda: limit.reschedule(asyncio.get_running_loop().time()))
        await run()


async def nested_timeouts(run: Run, told: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    async with _when(told) as acts, asyncio.timeout(None) as outer, asyncio.timeout(None) as inner:
        acts.append(lambda: inner.reschedule(loop.time()))
        acts.append(lambda: outer.reschedule(loop.time() + 0.1))
        await run()


async def task_group(run: Run, told: asyncio.Event) -> None:
    async def sibling() -> None:
        await told.wait()
        raise SiblingError

    async with asyncio.TaskGroup() as group:
        other = group.create_task(sibling())
        await group.create_task(_awaited(run))
        other.cancel()


async def move_on_after(run: Run, told: asyncio.Event) -> None:
    async with _when(told) as acts:
        with anyio.move_on_after(3600) as scope:
            acts.append(lambda: setattr(scope, "deadline", anyio.current_time()))
            await run()


async def cancel_scope(run: Run, told: asyncio.Event) -> None:
    async with _when(told) as acts:
        with anyio.CancelScope() as scope:
            acts.append(scope.cancel)
            await run()


async def nested_scopes(run: Run, told: asyncio.Event) -> None:
    async with _when(told) as acts:
        with anyio.CancelScope() as outer:
            with anyio.CancelScope() as inner:
                acts += [inner.cancel, outer.cancel]
                await run()
            await anyio.lowlevel.checkpoint()


async def anyio_sibling(run: Run, told: asyncio.Event) -> None:
    async def sibling() -> None:
        await told.wait()
        raise SiblingError

    async def part() -> None:
        await run()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(part)
        group.start_soon(sibling)


async def starlette(run: Run, told: asyncio.Event) -> None:
    async def lines() -> AsyncIterator[str]:
        yield "begun\n"
        await run()
        yield "ended\n"

    async def receive() -> dict[str, Any]:
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    await StreamingResponse(lines())({"type": "http", "asgi": {"spec_version": "2.0"}}, receive, send)


async def aiohttp(run: Run, told: asyncio.Event) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def handle(request: web.Request) -> web.Response:
        try:
            await run()
        except BaseException as error:
            ended.set_result(error)
            raise
        ended.set_result(None)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as client, _when(told) as acts:
            asked = asyncio.ensure_future(client.get(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
            acts.append(asked.cancel)
            try:
                await asyncio.wait({ended})
            finally:
                asked.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await asked
    finally:
        await runner.cleanup()
    error = ended.result()
    if isinstance(error, Exception):
        raise error


def aborted(take: Callable[[], Take | None]) -> Host:
    """A program that asks for the end by name."""

    async def host(run: Run, told: asyncio.Event) -> None:
        def abort() -> None:
            if (one := take()) is not None:
                one.abort()

        async with _when(told) as acts:
            acts.append(abort)
            await run()

    return host


HOSTS: dict[str, Host] = {
    "asyncio": plain,
    "cancelled twice": cancelled_twice,
    "asyncio.timeout": timeout,
    "nested timeouts": nested_timeouts,
    "TaskGroup sibling": task_group,
    "anyio move_on_after": move_on_after,
    "anyio CancelScope": cancel_scope,
    "anyio nested scopes": nested_scopes,
    "anyio sibling": anyio_sibling,
    "starlette": starlette,
    "aiohttp": aiohttp,
}


async def _awaited(run: Run) -> None:
    await run()


class _when:  # noqa: N801 - used as a function
    """A list of what is to be done when an event is set, for the block."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._acts: list[Callable[[], object]] = []
        self._task: asyncio.Task[None] | None = None

    async def _watch(self) -> None:
        await self._event.wait()
        for act in self._acts:
            act()

    async def __aenter__(self) -> list[Callable[[], object]]:
        self._task = asyncio.ensure_future(self._watch())
        return self._acts

    async def __aexit__(self, *details: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
