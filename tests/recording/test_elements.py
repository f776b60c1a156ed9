"""What we write is what gst-launch-1.0 reads, whatever the names."""

import asyncio
import random
from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.errors import UsageError
from asynccam.recording.elements import Chain, Graph, GstElement, PadOf, caps, printf_literal, quote

NAMES = [
    "a b",
    " blanks around ",
    "quo\"te's",
    "'all'",
    '"all"',
    "100%d %s%%",
    "ex!c ! lam",
    "Kamera Süd 日本",
    'back\\slash\\"',
    "ends in \\",
    "new\nline\ttab",
    "$HOME `x` ;&|",
    "(x)[y]{z}<a>,=",
    "name=value ! fakesink",
]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (7, "7"),
        (0.5, "0.5"),
        (Fraction(30000, 1001), "30000/1001"),
        ("smpte", "smpte"),
        ("", '""'),
        ("a b", '"a b"'),
        ('a"\\b', '"a\\"\\\\b"'),
    ],
)
def test_values_are_quoted_only_where_they_must_be(value: str | float | Fraction, text: str) -> None:
    assert quote(value) == text


@pytest.mark.parametrize("value", ["a\0b", "\udcff"])
def test_invalid_characters_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="does not accept"):
        quote(value)


def test_graph_arguments_join_chains() -> None:
    graph = Graph(
        (
            (
                GstElement("videotestsrc", {"num-buffers": 1}),
                GstElement("tee", {"name": "t"}),
                GstElement("fakesink"),
            ),
            (PadOf("t"), caps("video/x-raw", width=None, framerate=Fraction(5)), GstElement("fakesink")),
        ),
        inner=frozenset({"matroskamux"}),
    )
    assert graph.arguments() == [
        *["videotestsrc", "num-buffers=1", "!", "tee", "name=t", "!", "fakesink"],
        *["t.", "!", "capsfilter", 'caps="video/x-raw,framerate=5/1"', "!", "fakesink"],
    ]
    assert graph.factories == {"videotestsrc", "tee", "fakesink", "capsfilter", "matroskamux"}


async def test_quote_keeps_every_file_name(tmp_path: Path) -> None:
    chains: list[Chain] = []
    for name in NAMES:
        source = GstElement("videotestsrc", {"num-buffers": 2})
        small = caps("video/x-raw", width=16, height=16)
        sink = GstElement("filesink", {"location": str(tmp_path / name)})
        chains.append((source, small, sink))
        split = GstElement(
            "splitmuxsink",
            {"location": printf_literal(str(tmp_path / name)) + "-%02d.mkv", "muxer-factory": "matroskamux"},
        )
        chains.append((source, small, GstElement("jpegenc"), split))
    process = await asyncio.create_subprocess_exec(
        "gst-launch-1.0", "-q", *Graph(tuple(chains)).arguments(), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    written = {path.name for path in tmp_path.iterdir() if path.stat().st_size}
    assert written == {*NAMES, *(f"{name}-00.mkv" for name in NAMES)}


async def test_names_of_nothing_but_special_characters_arrive_as_they_are(tmp_path: Path) -> None:
    dice = random.Random(20)
    names = {"".join(dice.choices("\\\"' !%=.;(){}\n$`é", k=dice.randint(3, 8))) for _ in range(60)}
    process = await asyncio.create_subprocess_exec(
        *["gst-launch-1.0", "-q"],
        *Graph(tuple(_one_frame_to(str(tmp_path / name)) for name in names)).arguments(),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert {path.name for path in tmp_path.iterdir()} == names


async def test_quote_value_beginning_with_quote(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *["gst-launch-1.0", "-q", *Graph((_one_frame_to('"in quotes"'),)).arguments()], cwd=tmp_path
    )
    assert await process.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ['"in quotes"']


def _one_frame_to(location: str) -> Chain:
    small = caps("video/x-raw", width=16, height=16)
    return (
        GstElement("videotestsrc", {"num-buffers": 1}),
        small,
        GstElement("filesink", {"location": location}),
    )
