"""The form of the server's own settings as HTML, so that it works without JavaScript too."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from asynccam.systems.snapshot.server.form import Field, input_html
from asynccam.systems.snapshot.server.schemas import SettingsDocument
from asynccam.systems.snapshot.server.settings import Problem
from asynccam.systems.snapshot.server.settings_update import CHANGEABLE

_NUMBER: Final = 'inputmode="decimal"'
_WHOLE: Final = 'inputmode="numeric"'
_PLAIN: Final = 'spellcheck="false" autocapitalize="none"'
_ENABLED: Final = "imu.enabled"
_HELD: Final = ("imu.broker", "imu.port")
_AGE: Final = "A reading older than the age limit does not go into pictures."
_KEPT: Final = "A password goes to this broker, so it is changed in the configuration file."

_RETENTION: Final = (
    Field("retention.max_age_days", "Days", hint="Older pictures are deleted.", width="half", more=_NUMBER),
    Field(
        "retention.max_size_mb",
        "Megabytes",
        hint="The oldest are deleted while all together are larger.",
        width="half",
        more=_NUMBER,
    ),
)
_IMU: Final = (
    Field("imu.broker", "Broker", "127.0.0.1", "wide", hint="Host name or address.", more=_PLAIN),
    Field("imu.port", "Port", "1883", "third", more=_WHOLE),
    Field("imu.topic", "Topic", "status/", "wide", hint="Sends roll, pitch and yaw as JSON.", more=_PLAIN),
    Field("imu.max_age", "Age limit, s", "5", "third", more=_NUMBER),
    Field("imu.username", "User", hint="Empty for none.", more=_PLAIN),
)
_LIMITS: Final = (
    Field("limits.captures", "At once", "4", "half", more=_WHOLE),
    Field("limits.waiting", "Waiting", "256", "half", hint="More are refused as busy.", more=_WHOLE),
)


def settings_html(
    settings: SettingsDocument, values: Mapping[str, str] | None = None, problems: Iterable[Problem] = ()
) -> str:
    """Every field, with what is in force or was given, and what is wrong with it."""
    given = {**_given(settings), **(values or {})}
    wrong: dict[str, str] = {}
    for one in problems:
        wrong.setdefault(one.field, one.message)
    enabled = settings.imu.enabled if values is None else bool(values.get(_ENABLED))
    box = (
        f'<label class="check"><input type="checkbox" name="{_ENABLED}" id="f-imu-enabled" value="true"'
        f"{' checked' if enabled else ''}> Put the orientation into pictures</label>"
    )
    held = settings.imu.password
    imu = [
        _held(one, given, wrong) if held and one.name in _HELD else input_html(one, given, wrong)
        for one in _IMU
    ]
    retention, limits = ([input_html(one, given, wrong) for one in group] for group in (_RETENTION, _LIMITS))
    return (
        _group("How long pictures stay", retention, "Empty: for ever.")
        + _group("IMU, by MQTT", [box, *imu], _AGE)
        + _group("Captures", limits, "In force when the server starts next.")
    )


def settings_of(form: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings as a form, for `changed_settings`."""
    found: dict[str, dict[str, Any]] = {}
    for group, names in CHANGEABLE.items():
        for name in names:
            if f"{group}.{name}" in form:
                found.setdefault(group, {})[name] = str(form[f"{group}.{name}"])
    # A box that is not ticked is not sent.
    found.setdefault("imu", {})["enabled"] = bool(form.get(_ENABLED))
    return found


def _given(settings: SettingsDocument) -> dict[str, str]:
    return {
        f"{group}.{name}": "" if value is None else str(value).removesuffix(".0")
        for group, values in settings.model_dump().items()
        for name, value in values.items()
    }


def _held(one: Field, given: Mapping[str, str], wrong: Mapping[str, str]) -> str:
    return input_html(
        Field(one.name, one.label, one.default, one.width, _KEPT if one.hint else "", "readonly"),
        given,
        wrong,
    )


def _group(legend: str, fields: Iterable[str], hint: str) -> str:
    below = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    inner = "".join(fields)
    return f'<fieldset><legend>{escape(legend)}</legend><div class="fields">{inner}</div>{below}</fieldset>'
