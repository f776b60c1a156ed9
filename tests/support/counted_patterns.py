"""How many bytes the patterns of the JSON scanner work on, which says more about its cost than a clock."""

import re

import pytest

from asynccam.net import framing


class ScannedBytes:
    """Counts the work of both patterns of `asynccam.net.framing.ObjectScanner`, for the length of a test.

    Attributes:
        offered: Bytes from each position at which a pattern was tried to the end of its buffer: the most that
            it can have read.
        matched: Bytes that the patterns matched.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offered = 0
        self.matched = 0
        for name in ("_TO_BRACKET", "_IN_STRING"):
            monkeypatch.setattr(framing, name, _Counted(getattr(framing, name), self))


class _Counted:
    def __init__(self, pattern: re.Pattern[bytes], scanned: ScannedBytes) -> None:
        self._pattern = pattern
        self._scanned = scanned

    def match(self, buffer: bytes | bytearray, position: int) -> re.Match[bytes] | None:
        match = self._pattern.match(buffer, position)
        self._scanned.offered += len(buffer) - position
        if match is not None:
            self._scanned.matched += match.end() - match.start()
        return match
