"""A chat bot, Telegram style: lists cameras, records on command, reports unavailable cameras.

It speaks the Bot API: ``python examples/bot.py https://api.telegram.org TOKEN CHAT fleet.toml``; in the
chat: ``/cameras`` and ``/record SECONDS``.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from asynccam import CameraState, CameraStateChanged, Session


class Bot:
    """One chat of a bot."""

    def __init__(self, http: aiohttp.ClientSession, api: str, token: str, chat: int) -> None:
        self._http = http
        self._url = f"{api}/bot{token}"
        self._chat = chat

    async def say(self, text: str) -> None:
        """Write a message into the chat."""
        await self._call("sendMessage", chat_id=self._chat, text=text)

    async def messages(self) -> AsyncIterator[str]:
        """Yield the messages of the chat, without end."""
        offset = 0
        while True:
            for update in await self._call("getUpdates", offset=offset, timeout=30):
                offset = update["update_id"] + 1
                message = update.get("message", {})
                if message.get("chat", {}).get("id") == self._chat:
                    yield message.get("text", "")

    async def _call(self, method: str, **arguments: Any) -> Any:
        async with self._http.post(f"{self._url}/{method}", json=arguments) as answer:
            answer.raise_for_status()
            return (await answer.json())["result"]


async def answer(text: str, session: Session, directory: Path) -> str:
    """Return the reply to a message."""
    match text.split():
        case ["/cameras"]:
            names = [
                camera.info.name for key, camera in session.cameras.items() if key not in session.unavailable
            ]
            lines = [f"{name} is available" for name in names]
            return "\n".join([*lines, *map(str, session.unavailable.values())]) or "There is no camera."
        case ["/record", seconds] if seconds.replace(".", "", 1).isdigit():
            take = await session.take(duration=float(seconds), directory=directory, start_in=1.0)
            files = sum(len(camera.files) for camera in take.manifest.cameras)
            return f"{take.name} is {take.manifest.outcome}: {files} files"
        case _:
            return "/cameras or /record SECONDS"


async def main(api: str, token: str, chat: int, fleet: Path, directory: Path = Path("takes")) -> None:
    """Serve the chat without end."""
    async with aiohttp.ClientSession() as http, Session.open(fleet=fleet, http=http) as session:
        bot = Bot(http, api, token, chat)

        async def report(event: CameraStateChanged) -> None:
            if CameraState.UNAVAILABLE in (event.state, event.previous):
                await bot.say(f"{event.camera}: {event.state.value} {event.reason}".rstrip())

        with session.subscribe(report, CameraStateChanged, replay=True):
            async for text in bot.messages():
                try:
                    await bot.say(await answer(text, session, directory))
                except (
                    ValueError
                ) as error:  # every mistake of the caller's, a take without a camera for example
                    await bot.say(str(error))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
