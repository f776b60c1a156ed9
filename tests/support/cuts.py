"""The same bytes, cut in every way that can make a difference."""

from collections.abc import Iterator


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in two at every place, and byte by byte."""
    yield [data]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]
    yield [data[place : place + 1] for place in range(len(data))]
