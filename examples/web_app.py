"""A web application with cameras: their states, their events as they happen, and a take by POST.

``python examples/web_app.py fleet.toml`` serves ``/cameras``, ``/events`` (as server-sent
events) and ``POST /take`` on port 8080.
"""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from asynccam import Session, UsageError
from asynccam.model.event_json import event_document

SESSION = web.AppKey("session", Session)
TAKES = web.AppKey("takes", Path)


async def cameras(request: web.Request) -> web.Response:
    """List available and unavailable cameras."""
    session = request.app[SESSION]
    available = [camera.info for key, camera in session.cameras.items() if key not in session.unavailable]
    return web.json_response(
        {
            "available": [{"id": info.id, "name": info.name, "address": info.address} for info in available],
            "unavailable": {key: str(reason) for key, reason in session.unavailable.items()},
        }
    )


async def take(request: web.Request) -> web.Response:
    """Record with all available cameras."""
    wanted = await request.json()
    try:
        made = await request.app[SESSION].take(
            duration=wanted["duration"], directory=request.app[TAKES], start_in=wanted.get("start_in", 1.0)
        )
    except (UsageError, KeyError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    return web.json_response(text=made.manifest.model_dump_json())


async def events(request: web.Request) -> web.StreamResponse:
    """Stream the current state, then every event."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    with request.app[SESSION].events.stream(replay=True) as stream:
        async for event in stream:
            document = event_document(event)
            await response.write(f"event: {document['event']}\ndata: {json.dumps(document)}\n\n".encode())
    return response


def application(fleet: Path, directory: Path = Path("takes")) -> web.Application:
    """Return the application; its session is open as long as the application runs."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with Session.open(fleet=fleet) as app[SESSION]:
            yield

    app = web.Application()
    app[TAKES] = directory
    app.cleanup_ctx.append(session)
    app.add_routes([web.get("/cameras", cameras), web.post("/take", take), web.get("/events", events)])
    return app


if __name__ == "__main__":
    web.run_app(application(Path(sys.argv[1])), port=8080)
