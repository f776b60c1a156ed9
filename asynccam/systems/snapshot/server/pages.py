"""The page, its forms and what it is made of; works, if plainly, without JavaScript."""

import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import Final

from aiohttp import hdrs, web

from asynccam.errors import AsynccamError, NotFoundError, TimeoutError
from asynccam.runtime.disk import on_disk
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.answers import html_error
from asynccam.systems.snapshot.server.form import entries_html, fields_html, fields_of, problems_html
from asynccam.systems.snapshot.server.request_parsing import BODY_SECONDS
from asynccam.systems.snapshot.server.security import COOKIE, COOKIE_SECONDS, Guard
from asynccam.systems.snapshot.server.server_form import settings_html, settings_of
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import Problem, check_reachable
from asynccam.systems.snapshot.server.state import settings_document

_STATIC: Final = "asynccam.systems.snapshot.server"
_TEMPLATES: Final = (".html",)
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FORM: Final = "application/x-www-form-urlencoded"
_AFTER_LOGIN: Final = ("./", "settings")
_LEAVE: Final = (
    '<form method="post" action="logout"><button class="button quiet" type="submit">Sign out</button></form>'
)


class Pages:
    """The page and its forms.

    Args:
        service: What it shows.
        guard: Knows the token.
        files: Name -> content of every static file, see `read_static`.
    """

    def __init__(self, service: SnapshotService, guard: Guard, files: Mapping[str, bytes]) -> None:
        self._service = service
        self._guard = guard
        self._templates = {name: data.decode() for name, data in files.items() if name.endswith(_TEMPLATES)}
        self._static = {
            name: (data, _type_of(name), f'"{hashlib.sha256(data).hexdigest()[:20]}"')
            for name, data in files.items()
            if not name.endswith(_TEMPLATES)
        }

    def routes(self) -> list[web.RouteDef]:
        """Where everything is."""
        return [
            web.get("/", self.cameras),
            web.get("/settings", self.settings),
            web.post("/settings/add", self.add),
            web.post("/settings/delete/{camera_name}", self.delete),
            web.post("/settings/server", self.change),
            web.get("/static/{name}", self.static),
            web.get("/favicon.ico", self.icon),
            web.get("/login", self.login),
            web.post("/login", self.sign_in),
            web.post("/logout", self.sign_out),
        ]

    async def cameras(self, request: web.Request) -> web.StreamResponse:
        """``GET /``."""
        return self._page("cameras")

    async def settings(self, request: web.Request) -> web.StreamResponse:
        """``GET /settings``: the same page, opened at its settings."""
        return self._page("settings")

    async def add(self, request: web.Request) -> web.StreamResponse:
        """``POST /settings/add``: back to the settings, or the form with what is wrong with it."""
        form = await _form(request)
        fields = fields_of(form)
        camera, problems = check_reachable(fields, taken=[one.name for one in self._service.cameras()])
        if camera is not None:
            problems = self._service.config.allowed.problems(camera)
        if camera is not None and not problems:
            try:
                await self._service.config.add_camera(fields)
            except AsynccamError as error:
                problems = (Problem(str(error)),)
        if problems:
            values = {key: str(value) for key, value in fields.items() if value}
            return self._page("settings", base="../", status=400, values=values, problems=problems)
        return _see("../settings")

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """``POST /settings/delete/{camera_name}``: back to the settings; a camera that is gone is gone."""
        try:
            await self._service.config.delete_camera(request.match_info["camera_name"])
        except NotFoundError:
            pass
        except AsynccamError as error:
            return self._page("settings", base="../../", status=409, problems=(Problem(str(error)),))
        return _see("../../settings")

    async def change(self, request: web.Request) -> web.StreamResponse:
        """``POST /settings/server``: back to the settings, or the form with what is wrong with it."""
        form = await _form(request)
        changes = settings_of(form)
        problems = self._service.config.check_settings(changes)
        if not problems:
            try:
                await self._service.config.change_settings(changes)
            except AsynccamError as error:
                problems = (Problem(str(error)),)
        if problems:
            return self._page("settings", base="../", status=400, server=form, server_problems=problems)
        return _see("../settings")

    async def icon(self, request: web.Request) -> web.StreamResponse:
        """``GET /favicon.ico``: what a browser asks for beside a picture or a document of its own."""
        return self._file(request, "icon.svg")

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``: from memory, so that no name is ever a path."""
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.Response:
        found = self._static.get(name)
        if found is None:
            return html_error(404)
        data, content_type, tag = found
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: tag}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, headers=headers | {hdrs.CONTENT_TYPE: content_type})

    # -- signing in -----------------------------------------------------------------------------

    async def login(self, request: web.Request) -> web.StreamResponse:
        """``GET /login``."""
        return self._login(request.query.get("next", ""))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """``POST /login``: a cookie for the right token."""
        form = await _form(request)
        there = form.get("next", "")
        if not self._guard.accepts(form.get("token", "").strip()):
            return self._login(there, problem="That is not the token.", status=401)
        # Only these two places, so that nobody can be sent elsewhere.
        answer = _see(there if there in _AFTER_LOGIN else "./")
        answer.set_cookie(
            COOKIE,
            self._guard.cookie(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return answer

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """``POST /logout``."""
        answer = _see("login")
        answer.del_cookie(COOKIE)
        return answer

    # -- within ---------------------------------------------------------------------------------

    def _login(self, there: str, *, problem: str = "", status: int = 200) -> web.Response:
        said = f'<p class="wrong" id="wrong" role="alert">{escape(problem)}</p>' if problem else ""
        slots = {
            "base": "./",
            "next": escape(there),
            "problem": said,
            "described": ' aria-invalid="true" aria-describedby="wrong"' if problem else "",
        }
        return _html(_filled(self._templates["login.html"], slots), status)

    def _page(
        self,
        view: str,
        *,
        base: str = "./",
        status: int = 200,
        values: Mapping[str, str] | None = None,
        problems: Iterable[Problem] = (),
        server: Mapping[str, str] | None = None,
        server_problems: Iterable[Problem] = (),
    ) -> web.Response:
        cameras, found, wrong = self._service.cameras(), tuple(problems), tuple(server_problems)
        slots = {
            "view": view,
            "base": base,
            "here": "settings" if view == "settings" else "./",
            "title": "Settings · Snapshot" if view == "settings" else "Snapshot",
            "leave": _LEAVE if self._guard.wants_token else "",
            "config": escape(self._service.config.path.name),
            "entries": entries_html(cameras),
            "no_entries": " hidden" if cameras else "",
            "problems": problems_html(found),
            "fields": fields_html(values, found),
            "server_problems": problems_html(wrong),
            "server_fields": settings_html(settings_document(self._service), server, wrong),
        }
        return _html(_filled(self._templates["page.html"], slots), status)


async def read_static() -> dict[str, bytes]:
    """Every file that the page is made of, by name."""

    def read() -> dict[str, bytes]:
        place = resources.files(_STATIC) / "static"
        return {one.name: one.read_bytes() for one in place.iterdir() if one.is_file()}

    return await on_disk(read)


def _filled(template: str, slots: Mapping[str, str]) -> str:
    """Pieces between ``{{`` and ``}}`` replaced once: what is put in is never looked at again."""
    head, *rest = template.split("{{")
    parts = [head]
    for piece in rest:
        name, _, text = piece.partition("}}")
        parts += [slots[name], text]
    return "".join(parts)


def _html(text: str, status: int) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _see(place: str) -> web.Response:
    return web.Response(status=302, headers={hdrs.LOCATION: place, hdrs.CACHE_CONTROL: "no-store"})


def _type_of(name: str) -> str:
    suffix = name[name.rfind(".") :]
    return f"{_TYPES.get(suffix, 'application/octet-stream')}; charset=utf-8"


async def _form(request: web.Request) -> dict[str, str]:
    """A form's fields; files are not taken."""
    if request.content_type != _FORM:
        raise web.HTTPUnsupportedMediaType
    try:
        async with deadline(BODY_SECONDS, "form"):
            form = await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, LookupError):  # no text in its character set, or a character set that is none
        raise web.HTTPBadRequest from None
    return {name: value for name, value in form.items() if isinstance(value, str)}
