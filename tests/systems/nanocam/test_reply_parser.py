"""Files without a length end where their own format says so, whatever words stand inside them."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccam.errors import RemoteProtocolError
from asynccam.systems.nanocam.protocol import (
    FileListing,
    Finished,
    encode_names,
)
from asynccam.systems.nanocam.reply_parser import (
    FileBegins,
    FileBytes,
    FileEnds,
    ReplyEvent,
    ReplyReader,
)
from tests.support.nanocam_media import WORDS, box, boxes, comment, jpeg, mp4

PICTURE, PROGRESSIVE, RESTARTS = jpeg(1), jpeg(2, progressive=True), jpeg(3, restarts=True)


def answer(files: list[bytes], suffix: str = "jpg") -> bytes:
    names = [f"/home/media/2020-07-29 14:54:{number:02}.{suffix}" for number in range(len(files))]
    return encode_names(names) + b"MORE".join(files) + b"QUIT"


def received(
    pieces: Iterable[bytes], reader: ReplyReader | None = None
) -> tuple[list[bytes], list[ReplyEvent]]:
    reader = reader or ReplyReader()
    files: list[bytearray] = []
    events: list[ReplyEvent] = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, FileBegins):
                files.append(bytearray())
            if isinstance(event, FileBytes):
                assert event.data
                files[-1] += event.data
            else:
                events.append(event)
    return [bytes(one) for one in files], events


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


def check(files: list[bytes], suffix: str = "jpg", sizes: tuple[int, ...] = (1, 2, 3, 5, 7, 1024)) -> None:
    data = answer(files, suffix)
    for size in (*sizes, len(data)):
        reader = ReplyReader()
        found, events = received(cuts(data, size), reader)
        assert found == files
        assert [type(one) for one in events] == [
            FileListing,
            *[FileBegins, FileEnds] * len(files),
            Finished,
        ]
        assert reader.between
        assert reader.framed is False


def test_pictures() -> None:
    check([PICTURE])
    check([PICTURE, PROGRESSIVE, RESTARTS, PICTURE])


def test_video() -> None:
    assert [kind for kind, _, _ in boxes(mp4())] == [b"ftyp", b"free", b"mdat", b"moov"]
    check([mp4()], "mp4")


@pytest.mark.parametrize("word", WORDS)
def test_cut_at_every_position(word: bytes) -> None:
    files = [planted_in_comment(word), planted_in_comment(word + b"\xff\xd9" + word)]
    data = answer(files)
    for place in range(1, len(data)):
        assert received([data[:place], data[place:]])[0] == files


def planted_in_comment(words: bytes) -> bytes:
    return b"\xff\xd8" + comment(words) + PICTURE[2:]


@pytest.mark.parametrize(
    "picture", [PICTURE, PROGRESSIVE, RESTARTS], ids=["plain", "progressive", "restarts"]
)
def test_every_word_planted_in_a_picture(picture: bytes) -> None:
    scan = picture.index(b"\xff\xda")
    scan += 2 + struct.unpack_from(">H", picture, scan + 2)[0]
    for word in WORDS:
        for place in (scan, (scan + len(picture)) // 2, len(picture) - 2):
            while picture[place - 1] == 0xFF:  # not between a byte and what stuffs it
                place += 1
            planted = picture[:place] + word + picture[place:]
            check([planted, planted], sizes=(1, 3, 1024))
        check([planted_in_comment(word + b"\xff\xd9" + word)] * 2, sizes=(1, 3, 1024))


def test_thumbnail_with_its_own_end() -> None:
    inner = jpeg(9, side=16)
    whole = b"\xff\xd8" + comment(inner + b"MORE" + inner + b"QUIT") + PICTURE[2:]
    check([whole, whole])


def test_filling_before_a_marker() -> None:
    filled = PICTURE[:2] + b"\xff\xff\xff" + PICTURE[2:-2] + b"\xff\xff" + PICTURE[-2:]
    check([filled, filled])


def test_two_pictures_in_one_file() -> None:
    check([PICTURE + PROGRESSIVE, PICTURE])


@pytest.mark.parametrize("word", WORDS)
def test_every_word_planted_in_a_video(word: bytes) -> None:
    video = mp4()
    ((_, start, end),) = [one for one in boxes(video) if one[0] == b"mdat"]
    for place in (start + 8, (start + end) // 2, end - len(word)):
        planted = video[:place] + word + video[place + len(word) :]
        check([planted], "mp4", sizes=(1, 5, 1024))
    ((_, _, end),) = [one for one in boxes(video) if one[0] == b"moov"]
    check([video[: end - len(word)] + word], "mp4", sizes=(1, 5, 1024))


MEDIA = b"DONE" + b"MORE" + b"QUIT" * 9


@pytest.mark.parametrize(
    "video",
    [
        box(b"ftyp", b"isom") + box(b"moov", MEDIA) + box(b"mdat", MEDIA),  # for the web
        box(b"ftyp", b"isom") + box(b"mdat", MEDIA, large=True) + box(b"moov", MEDIA),
        box(b"ftyp", b"isom") + box(b"mdat") + box(b"moov", large=True),
        box(b"ftyp", b"isom") + box(b"moov", MEDIA) + (box(b"moof", MEDIA) + box(b"mdat", MEDIA)) * 3,
        box(b"ftyp", b"isom")
        + box(b"mdat", MEDIA)
        + box(b"moov", MEDIA)
        + box(b"free", MEDIA)
        + box(b"uuid"),
        box(b"wide") + box(b"mdat", MEDIA) + box(b"moov", MEDIA),  # QuickTime
    ],
)
def test_boxes_in_every_order(video: bytes) -> None:
    check([video], "mp4")
    check([video, video], "mp4")


def test_video_and_pictures_together() -> None:
    check([PICTURE, mp4(), PICTURE], "bin", sizes=(1, 1024))


@settings(max_examples=60)
@given(st.data())
def test_anything_with_markers_cut_anyhow(data: st.DataObject) -> None:
    stuff = st.lists(st.sampled_from([*WORDS, b"\xff\xd9", b"\xff\xd8", b"x"]), max_size=4).map(b"".join)
    files = [
        b"\xff\xd8"
        + comment(data.draw(stuff))
        + PICTURE[2:-2]
        + data.draw(stuff).replace(b"\xff", b"\xff\0")
        + b"\xff\xd9"
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    whole = answer(files)
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    assert received(pieces)[0] == files


# -- what does not tell its end -------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"no word in it"


@pytest.mark.parametrize(
    ("files", "suffix"),
    [
        ([PNG], "png"),
        ([PNG, PNG], "png"),
        ([b""], "jpg"),
        ([b"", PICTURE], "jpg"),
        ([PICTURE, b""], "jpg"),
        ([b"ab"], "txt"),
        ([PICTURE + b"trailer", PICTURE], "jpg"),
        ([PICTURE + b" MORE trailer", PICTURE], "jpg"),  # no picture follows that word
        ([box(b"ftyp", b"isom") + struct.pack(">I4s", 0, b"mdat") + b"killed"], "mp4"),
        ([box(b"ftyp", b"isom") + struct.pack(">I4s", 3, b"mdat") + b"QUIT, nonsense"], "mp4"),
        ([box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 9) + b"nonsense"], "mp4"),
        ([b"\xff\xd8\xff\xc0\0\1 too short a segment"], "jpg"),
        ([b"\xff\xd8\xff\0 no marker"], "jpg"),
    ],
)
def test_unknown_format_ends_at_word_and_silence(files: list[bytes], suffix: str) -> None:
    data = answer(files, suffix)
    for size in (1, 3, len(data)):
        reader = ReplyReader()
        found, events = received(cuts(data, size), reader)
        if not isinstance(events[-1], Finished):
            assert reader.ends_at_silence
            for event in reader.conclude():
                if isinstance(event, FileBytes):
                    found[-1] += event.data
                events.append(event)
        assert isinstance(events[-1], Finished)
        assert found == files
        assert reader.between


def test_word_is_not_an_end_while_more_follows() -> None:
    reader = ReplyReader()
    found, _ = received([answer([PNG + b"QUIT"], "png")], reader)
    assert reader.ends_at_silence
    assert found == [PNG + b"QUIT"]
    assert reader.feed(b"x") != []
    assert not reader.ends_at_silence


def test_silence_without_the_word_is_not_an_end() -> None:
    reader = ReplyReader()
    received([answer([PNG], "png")[:-1]], reader)
    assert not reader.ends_at_silence
    assert reader.conclude() == []
    reader = ReplyReader()
    received([answer([PICTURE, PNG], "jpg")[: -len(PNG) - 4 - 4]], reader)
    assert not reader.ends_at_silence


def test_wrong_word_is_not_an_end() -> None:
    reader = ReplyReader()
    _, events = received([encode_names(["a.jpg", "b.jpg"]) + PICTURE + b"QUIT"], reader)
    assert not any(isinstance(one, FileEnds) for one in events)
    assert not reader.ends_at_silence


def test_bulk_of_a_video() -> None:
    video = mp4()
    data = answer([video], "mp4")
    ((_, start, end),) = [one for one in boxes(video) if one[0] == b"mdat"]
    first = len(data) - len(b"QUIT") - len(video) + start + 40
    reader = ReplyReader()
    found, _ = received([data[:first]], reader)
    assert reader.bulk == end - start - 40
    reader.skip(1000)
    reader.skip(reader.bulk)
    assert reader.bulk == 0
    events = reader.feed(data[first + end - start - 40 :])
    assert isinstance(events[-1], Finished)
    assert found[0] == video[: start + 40]


def test_picture_without_an_end() -> None:
    reader = ReplyReader()
    _, events = received([answer([PICTURE[:-40], PICTURE])], reader)
    assert not any(isinstance(one, FileEnds) for one in events)
    assert not reader.ends_at_silence


def test_noise_after_the_names() -> None:
    for last in range(1, 5):
        reader = ReplyReader()
        reader.feed(encode_names(["a.jpg"])[:-last])
        with pytest.raises(RemoteProtocolError, match="no DONE"):
            reader.feed(b"?")


def test_memory_does_not_grow_with_a_file() -> None:
    reader = ReplyReader()
    reader.feed(answer([PICTURE])[:-600])
    for _ in range(200):
        reader.feed(b"\xff\0scan" * 1000)
        assert len(reader._data) <= 6000
        assert len(reader._data) - reader._position < 8
