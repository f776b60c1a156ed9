"""Numbers as people read them."""

import pytest

from asynccam.cli import formatting


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (4_212_345, "4.2 MB"),
        (123_400_000, "123 MB"),
    ],
)
def test_format_size(count: int | None, text: str) -> None:
    assert formatting.format_size(count) == text


def test_format_size_beyond_gigabytes() -> None:
    assert formatting.format_size(2_500_000_000) == "2.5 GB"
    assert formatting.format_size(3 * 10**12) == "3.00 TB"


def test_format_rate_unknown_is_empty() -> None:
    assert (
        formatting.format_rate(10, 0.0)
        == formatting.format_rate(None, 1.0)
        == formatting.format_rate(10, None)
        == ""
    )
    assert formatting.format_rate(2_000_000, 0.5) == "4.0 MB/s"


def test_format_offset_digits() -> None:
    assert formatting.format_offset(0.00002, 0.00015) == "+0.02 ± 0.15 ms"
    assert formatting.format_offset(-1.5, 0.02) == "-1,500 ± 20.0 ms"


def test_format_time_beyond_the_calendar() -> None:
    assert formatting.format_time(0) == "1970-01-01 00:00:00 UTC"
    assert formatting.format_time(None) == ""
    assert formatting.format_time(1e30) == "1e+30"
