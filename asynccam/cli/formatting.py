"""Text for people: sizes, times, and device names that are safe on a terminal."""

from datetime import UTC, datetime

from rich.text import Text

from asynccam.cli.errors import escape_unprintable


def device_text(text: str, style: str = "") -> Text:
    """Return text of a device on one line, without markup or escape sequences."""
    return Text(escape_unprintable(text), style=style)


def format_size(count: int | None) -> str:
    """Return bytes in decimal units: ``4.2 MB``; ``?`` for None."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def format_rate(count: int | None, seconds: float | None) -> str:
    """Return bytes per second, or ``""`` if unknown."""
    if not count or not seconds:
        return ""
    return f"{format_size(round(count / seconds))}/s"


def format_milliseconds(seconds: float) -> str:
    """Return a small, signed time: ``+0.21 ms``."""
    value = seconds * 1000
    return f"{value:+.2f} ms" if abs(value) < 10 else f"{value:+,.0f} ms"


def format_offset(offset: float, bound: float) -> str:
    """Return a clock offset with its bound: ``+0.02 ± 0.15 ms``."""
    if abs(offset) < 0.01 and bound < 0.01:
        return f"{offset * 1000:+.2f} ± {bound * 1000:.2f} ms"
    return f"{offset * 1000:+,.0f} ± {bound * 1000:,.1f} ms"


def format_time(unix: float | None) -> str:
    """Return a date and time in UTC to the second, or ``""`` for None."""
    if unix is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{unix:g}"


def count_cameras(count: int) -> str:
    """Return ``1 camera``, ``3 cameras``."""
    return "1 camera" if count == 1 else f"{count} cameras"


def format_duration(seconds: float) -> str:
    """Return a duration as a clock shows it: ``0:07``, ``12:30``, ``3:05:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
