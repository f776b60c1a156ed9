"""Numbers as people read them, and words of devices as a terminal may safely show them."""

from datetime import UTC, datetime

from rich.text import Text

from asynccam.cli.errors import visible


def told(text: str, style: str = "") -> Text:
    """A device's words: no markup, no escape sequences, on one line."""
    return Text(visible(text), style=style)


def size(count: int | None) -> str:
    """Bytes in decimal units: ``4.2 MB``; ``?`` for None."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def rate(count: int | None, seconds: float | None) -> str:
    """Bytes a second; empty where it is not known."""
    if not count or not seconds:
        return ""
    return f"{size(round(count / seconds))}/s"


def milliseconds(seconds: float) -> str:
    """A small, signed time: ``+0.21 ms``."""
    value = seconds * 1000
    return f"{value:+.2f} ms" if abs(value) < 10 else f"{value:+,.0f} ms"


def clock(offset: float, bound: float) -> str:
    """A clock offset with its bound: ``+0.02 ± 0.15 ms``."""
    if abs(offset) < 0.01 and bound < 0.01:
        return f"{offset * 1000:+.2f} ± {bound * 1000:.2f} ms"
    return f"{offset * 1000:+,.0f} ± {bound * 1000:,.1f} ms"


def moment(unix: float | None) -> str:
    """A date and time in UTC to the second, or empty for None."""
    if unix is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{unix:g}"


def cameras(count: int) -> str:
    """``1 camera``, ``3 cameras``."""
    return "1 camera" if count == 1 else f"{count} cameras"


def length(seconds: float) -> str:
    """A stretch of time as a clock shows it: ``0:07``, ``12:30``, ``3:05:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
