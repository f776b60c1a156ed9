"""``/api/v1/settings``: the settings of the server that may be changed over the web."""

from typing import Final

from aiohttp import web

from asynccam.systems.snapshot.server.answers import json_answer
from asynccam.systems.snapshot.server.openapi import Answer, Operation
from asynccam.systems.snapshot.server.request_parsing import (
    BODY_ERRORS,
    SAVE_ERRORS,
    RefusedError,
    invalid,
    json_object,
    typed,
)
from asynccam.systems.snapshot.server.schemas import (
    CheckResult,
    FieldProblem,
    SettingsChange,
    SettingsDocument,
)
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import Problem
from asynccam.systems.snapshot.server.state import settings_document

_PATH: Final = "/api/v1/settings"


class SettingsApi:
    """Retention, limits and the IMU, as far as they may be changed over the web.

    Args:
        service: Whose.
    """

    def __init__(self, service: SnapshotService) -> None:
        self._service = service

    def operations(self) -> tuple[Operation, ...]:
        """Every operation there is."""
        return (
            Operation(
                "GET",
                _PATH,
                typed(self.show),
                "getSettings",
                "Retention, limits and the IMU.",
                {200: Answer("The settings in force.", SettingsDocument)},
            ),
            Operation(
                "PATCH",
                _PATH,
                typed(self.change),
                "changeSettings",
                "Change settings; those not given stay, null is the default again.",
                {200: Answer("The settings as they are now.", SettingsDocument)},
                body=SettingsChange,
                errors=SAVE_ERRORS,
            ),
            Operation(
                "POST",
                "/api/v1/settings-check",
                typed(self.check),
                "checkSettings",
                "Say what is wrong with a change of settings, without saving it.",
                {200: Answer("What was found.", CheckResult)},
                body=SettingsChange,
                errors={status: BODY_ERRORS[status] for status in (400, 413, 415)},
            ),
        )

    async def show(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/v1/settings``."""
        return json_answer(settings_document(self._service))

    async def change(self, request: web.Request) -> web.StreamResponse:
        """``PATCH /api/v1/settings``."""
        changes = await json_object(request)
        found = _fields(self._service.config.check_settings(changes))
        if found:
            raise RefusedError(invalid(found))
        await self._service.config.change_settings(changes)
        return json_answer(settings_document(self._service))

    async def check(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/v1/settings-check``."""
        found = _fields(self._service.config.check_settings(await json_object(request)))
        return json_answer(CheckResult(ok=not found, problems=found))


def _fields(problems: tuple[Problem, ...]) -> tuple[FieldProblem, ...]:
    return tuple(FieldProblem(field=one.field, message=one.message) for one in problems)
