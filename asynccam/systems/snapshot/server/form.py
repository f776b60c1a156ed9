"""The form of a camera as HTML, so that settings work without JavaScript too."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final
from urllib.parse import quote

from asynccam.systems.snapshot.server.settings import INTERRUPT, V4L2, CameraConfig, Problem


@dataclass(frozen=True, slots=True)
class Field:
    """One input.

    Attributes:
        name: As in ``config.json``, with its group: ``imu.port``.
        label: For people.
        default: What it holds at first.
        width: CSS class of how wide it is.
        hint: Below it.
        more: Further attributes.
    """

    name: str
    label: str
    default: str = ""
    width: str = ""
    hint: str = ""
    more: str = ""


_FIELDS: Final = (
    Field("name", "Name", hint="Unique. Pictures are named after it.", more='required maxlength="100"'),
    Field(
        "device_path",
        "Device",
        hint="For example /dev/video0, or a link to it that stays the same; test:ball is a test picture.",
        more='required placeholder="/dev/video0" spellcheck="false" autocapitalize="none"',
    ),
    Field("width", "Width", "640", "third", more='inputmode="numeric"'),
    Field("height", "Height", "480", "third", more='inputmode="numeric"'),
    Field(
        "pixel_format",
        "Pixel format",
        "MJPG",
        "third",
        more='list="formats" maxlength="4" spellcheck="false" autocapitalize="characters"',
    ),
)
_SERVICE: Final = Field(
    "service_name",
    "Service",
    hint="systemd service that holds the device, stopped during a capture and always started again.",
    more='placeholder="mjpg_streamer.service" spellcheck="false" autocapitalize="none"',
)
_OFFSETS: Final = tuple(
    Field(f"{axis}_offset", axis.capitalize(), width="third", more='inputmode="decimal"')
    for axis in ("roll", "pitch", "yaw")
)
_TYPES: Final = {V4L2: "V4L2 camera", INTERRUPT: "V4L2 camera held by a service"}


def fields_html(values: Mapping[str, str] | None = None, problems: Iterable[Problem] = ()) -> str:
    """Every field, with what was given and what is wrong with it."""
    given = values or {}
    wrong: dict[str, str] = {}
    for one in problems:
        wrong.setdefault(one.field, one.message)
    parts = ['<div class="fields">']
    parts += [input_html(one, given, wrong) for one in _FIELDS[:2]]
    parts += [_select("type", "Kind", given.get("type", V4L2), wrong), input_html(_SERVICE, given, wrong)]
    parts += [input_html(one, given, wrong) for one in _FIELDS[2:]]
    parts.append(
        '<datalist id="formats"><option>MJPG<option>YUYV<option>UYVY<option>NV12<option>RGB3</datalist>'
    )
    checked = " checked" if given.get("stereo") else ""
    parts.append(
        f'<label class="check"><input type="checkbox" name="stereo" id="f-stereo" value="true"{checked}> '
        "One of a stereo pair</label>"
    )
    parts.append('<fieldset><legend>Orientation offsets, degrees</legend><div class="fields">')
    parts += [input_html(one, given, wrong) for one in _OFFSETS]
    parts.append('</div><p class="hint">Added to what the IMU says, before it goes into the picture.</p>')
    parts.append("</fieldset>")
    parts.append("</div>")
    return "\n".join(parts)


def entries_html(cameras: Iterable[CameraConfig]) -> str:
    """The list of cameras, each with a button that deletes it."""
    return "\n".join(
        f'<li><div><p class="name">{escape(one.name)}</p><p class="sub">{escape(_about(one))}</p></div>'
        f'<form method="post" action="settings/delete/{escape(quote(one.name, safe=""))}">'
        f'<button class="button danger" type="submit">Delete<span class="unseen"> {escape(one.name)}</span>'
        "</button></form></li>"
        for one in cameras
    )


def problems_html(problems: Iterable[Problem]) -> str:
    """What is wrong, as a list."""
    items = "".join(f"<li>{escape(str(one))}</li>" for one in problems)
    return f"<p>Not saved:</p><ul>{items}</ul>" if items else ""


def fields_of(form: Mapping[str, Any]) -> dict[str, str | bool]:
    """A camera's fields from a form, as the pages in the field send them."""
    known = ("name", "device_path", "type", "service_name", "width", "height", "pixel_format")
    fields: dict[str, str | bool] = {
        name: str(form[name])
        for name in (*known, "roll_offset", "pitch_offset", "yaw_offset")
        if form.get(name)
    }
    # A box that is not ticked is not sent.
    fields["stereo"] = str(form.get("stereo", "")).strip().lower() not in ("", "false", "0", "off", "no")
    return fields


def _about(camera: CameraConfig) -> str:
    words = f"{camera.device_path} · {camera.width} × {camera.height} · {camera.pixel_format}"  # noqa: RUF001 - the sign for "by"
    return f"{words} · stereo" if camera.stereo else words


def input_html(one: Field, given: Mapping[str, str], wrong: Mapping[str, str]) -> str:
    """One input with its label, its hint and what is wrong with it."""
    value = escape(given.get(one.name, one.default))
    message = wrong.get(one.name, "")
    key = one.name.replace(".", "-")
    described = f"e-{key}" + (f" h-{key}" if one.hint else "")
    hint = f'<p class="hint" id="h-{key}">{escape(one.hint)}</p>' if one.hint else ""
    invalid = ' aria-invalid="true"' if message else ""
    return (
        f'<div class="field {one.width}" data-field="{one.name}">'
        f'<label for="f-{key}">{one.label}</label>'
        f'<input id="f-{key}" name="{one.name}" value="{value}" aria-describedby="{described}" '
        f"{one.more}{invalid}>"
        f'{hint}<p class="wrong" id="e-{key}">{escape(message)}</p></div>'
    )


def _select(name: str, label: str, chosen: str, wrong: Mapping[str, str]) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{words}</option>'
        for value, words in _TYPES.items()
    )
    return (
        f'<div class="field" data-field="{name}"><label for="f-{name}">{label}</label>'
        f'<select id="f-{name}" name="{name}" aria-describedby="e-{name}">{options}</select>'
        f'<p class="wrong" id="e-{name}">{escape(wrong.get(name, ""))}</p></div>'
    )
