"""The page and its forms, which work without JavaScript too; templates by jinja2."""

import hashlib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

import jinja2
from aiohttp import hdrs, web

from asynccam.errors import AsynccamError, NotFoundError, TimeoutError
from asynccam.runtime.timing import deadline
from asynccam.systems.snapshot.server.middleware import BODY_TIMEOUT, COOKIE, COOKIE_SECONDS, AccessPolicy
from asynccam.systems.snapshot.server.models import Problem
from asynccam.systems.snapshot.server.schemas import SettingsDocument
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CHANGEABLE, CameraConfig

_PACKAGE: Final = "asynccam.systems.snapshot.server"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FORM: Final = "application/x-www-form-urlencoded"
_AFTER_LOGIN: Final = ("./", "settings")
_IMU_ENABLED: Final = "imu.enabled"


@dataclass(frozen=True, slots=True)
class PageFiles:
    """Static files by name, and the environment of the templates."""

    static: Mapping[str, bytes]
    templates: jinja2.Environment


@dataclass(frozen=True, slots=True)
class FormState:
    """Entries of a form by field name, the first error of each field, and all messages."""

    entries: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    @classmethod
    def of(cls, entries: Mapping[str, str], problems: Iterable[Problem]) -> "FormState":
        """Return a form with its problems."""
        problems = tuple(problems)
        errors = {problem.field: problem.message for problem in reversed(problems)}
        return cls(entries, errors, tuple(map(str, problems)))


class Pages:
    """The page, its forms and static files."""

    def __init__(self, service: SnapshotService, policy: AccessPolicy, files: PageFiles) -> None:
        self._service = service
        self._policy = policy
        self._templates = files.templates
        self._static = {
            name: (data, _content_type(name), f'"{hashlib.sha256(data).hexdigest()[:20]}"')
            for name, data in files.static.items()
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
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
        """``POST /settings/add``: redirect to the settings, or show the form with its problems."""
        fields = camera_fields_of(await _read_form(request))
        config = self._service.config
        problems = config.check_camera(fields) or await _problems_of(config.add_camera(fields))
        if problems:
            entries = {key: str(value) for key, value in fields.items() if value}
            form = FormState.of(entries, problems)
            return self._page("settings", base="../", status=400, camera_form=form)
        return _redirect("../settings")

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """``POST /settings/delete/{camera_name}``: redirect to the settings, even if it was deleted."""
        try:
            await self._service.config.delete_camera(request.match_info["camera_name"])
        except NotFoundError:
            pass
        except AsynccamError as error:
            form = FormState.of({}, [Problem(str(error))])
            return self._page("settings", base="../../", status=409, camera_form=form)
        return _redirect("../../settings")

    async def change(self, request: web.Request) -> web.StreamResponse:
        """``POST /settings/server``: redirect to the settings, or show the form with its problems."""
        form = await _read_form(request)
        changes = settings_of(form)
        config = self._service.config
        problems = config.check_settings(changes) or await _problems_of(config.change_settings(changes))
        if problems:
            return self._page("settings", base="../", status=400, submitted=form, problems=problems)
        return _redirect("../settings")

    async def icon(self, request: web.Request) -> web.StreamResponse:
        """``GET /favicon.ico``: requested by browsers that show a picture or a document on its own."""
        return self._file(request, "icon.svg")

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``: from memory, so that a name is never a path."""
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.Response:
        if name not in self._static:
            raise web.HTTPNotFound
        data, content_type, tag = self._static[name]
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: tag}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, headers=headers | {hdrs.CONTENT_TYPE: content_type})

    # -- signing in -----------------------------------------------------------------------------

    async def login(self, request: web.Request) -> web.StreamResponse:
        """``GET /login``."""
        return self._render("login.html", next=request.query.get("next", ""), problem="")

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """``POST /login``: set a cookie if the token is valid."""
        form = await _read_form(request)
        target = form.get("next", "")
        if not self._policy.accepts(form.get("token", "").strip()):
            return self._render("login.html", 401, next=target, problem="That is not the token.")
        # Only these two targets: a link must not be able to redirect to another site.
        response = _redirect(target if target in _AFTER_LOGIN else "./")
        response.set_cookie(
            COOKIE,
            self._policy.cookie(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """``POST /logout``."""
        response = _redirect("login")
        response.del_cookie(COOKIE)
        return response

    def _page(
        self,
        view: str,
        *,
        base: str = "./",
        status: int = 200,
        camera_form: FormState | None = None,
        submitted: Mapping[str, str] | None = None,
        problems: Iterable[Problem] = (),
    ) -> web.Response:
        settings = SettingsDocument.of(self._service.config.current)
        entries = _entries_of(settings)
        if submitted is not None:
            # An unchecked box is not submitted.
            entries = {**entries, _IMU_ENABLED: "", **submitted}
        return self._render(
            "page.html",
            status,
            view=view,
            base=base,
            wants_token=self._policy.wants_token,
            config=self._service.config.path.name,
            cameras=self._service.cameras(),
            camera_form=camera_form or FormState(),
            settings_form=FormState.of(entries, problems),
            password=settings.imu.password,
        )

    def _render(self, template: str, status: int = 200, **context: Any) -> web.Response:
        text = self._templates.get_template(template).render(context)
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def read_files() -> PageFiles:
    """Read and compile everything that the page consists of; blocking."""
    static, templates = (
        {entry.name: entry.read_bytes() for entry in (resources.files(_PACKAGE) / directory).iterdir()}
        for directory in ("static", "templates")
    )
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({name: data.decode() for name, data in templates.items()}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
    )
    environment.filters["quote"] = partial(quote, safe="")
    for name in templates:
        environment.get_template(name)  # compiled once, off the event loop
    return PageFiles(static, environment)


def camera_fields_of(form: Mapping[str, str]) -> dict[str, str | bool]:
    """Return a camera's fields from a form, as existing pages send them."""
    fields: dict[str, str | bool] = {name: form[name] for name in CameraConfig.model_fields if form.get(name)}
    # An unchecked box is not submitted.
    fields["stereo"] = form.get("stereo", "").strip().lower() not in ("", "false", "0", "off", "no")
    return fields


def settings_of(form: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the settings of a form, for `changed_settings`."""
    found: dict[str, dict[str, Any]] = {}
    for group, names in CHANGEABLE.items():
        for name in names:
            if f"{group}.{name}" in form:
                found.setdefault(group, {})[name] = form[f"{group}.{name}"]
    found.setdefault("imu", {})["enabled"] = bool(form.get(_IMU_ENABLED))
    return found


def _entries_of(settings: SettingsDocument) -> dict[str, str]:
    """Return settings as entries of the form."""
    return {
        f"{group}.{name}": _entry(value)
        for group, values in settings.model_dump().items()
        for name, value in values.items()
    }


def _entry(value: object) -> str:
    """Return 30 rather than 30.0, and an empty text for null and false."""
    if value is None or value is False:
        return ""
    return f"{value}".removesuffix(".0") if isinstance(value, float) else str(value)


async def _problems_of(change: Awaitable[object]) -> tuple[Problem, ...]:
    try:
        await change
    except AsynccamError as error:
        return (Problem(str(error)),)
    return ()


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})


def _content_type(name: str) -> str:
    suffix = name[name.rfind(".") :]
    return f"{_TYPES.get(suffix, 'application/octet-stream')}; charset=utf-8"


async def _read_form(request: web.Request) -> dict[str, str]:
    """Read a form's fields, except files."""
    if request.content_type != _FORM:
        raise web.HTTPUnsupportedMediaType
    try:
        async with deadline(BODY_TIMEOUT, "form"):
            form = await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, LookupError):  # not text in its character set, or an unknown character set
        raise web.HTTPBadRequest from None
    return {name: value for name, value in form.items() if isinstance(value, str)}
