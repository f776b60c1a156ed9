"""The structure of JPEG pictures (ITU-T T.81, annex B): markers, the scans between them, and the end."""

from typing import Final

from asynccam.recording.containers.reader import CutShortError, FileView, Scan

_BLOCK: Final = 1 << 16
_START: Final = 0xD8
_END: Final = 0xD9
_SCAN: Final = 0xDA
_FILL: Final = 0xFF
# Markers that stand alone: TEM and the restarts. Inside a scan, FF 00 is the byte FF itself.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
# SOF0 to SOF15 begin a frame; the three numbers left out are tables.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_jpeg(head: bytes) -> bool:
    """Whether a file begins as a JPEG does."""
    return head[:3] == bytes((_FILL, _START, _FILL))


def scan_jpeg(view: FileView) -> Scan:
    """Read a picture's markers to its end.

    Raises:
        AbortedError, OSError: From the view.
    """
    framed = scanned = False
    offset = 2
    try:
        while True:
            lead, marker = view.read(offset, 2)
            if lead != _FILL:
                return Scan(int(scanned), None, f"has no marker at byte {offset}")
            offset += 1 if marker == _FILL else 2
            if marker == _END:
                break
            if marker == _FILL or marker in _ALONE:
                continue
            length = int.from_bytes(view.read(offset, 2))
            if length < 2:
                return Scan(int(scanned), None, f"has a segment of {length} bytes at byte {offset}")
            view.read(offset + length - 1, 1)
            offset += length
            framed |= marker in _FRAMES
            if marker == _SCAN:
                scanned |= framed
                offset = _after_scan(view, offset)
    except CutShortError:
        return Scan(int(scanned), None, "is cut off before its end of image")
    if not scanned:
        return Scan(0, None, note="holds no picture")
    return Scan(1, None)  # whatever stands behind it: some cameras' encoders fill their buffers up


def _after_scan(view: FileView, offset: int) -> int:
    """Where the next marker stands that is none of the scan's own."""
    while len(block := view.read_some(offset, _BLOCK)) > 1:
        place = 0
        while 0 <= (place := block.find(_FILL, place)) < len(block) - 1:
            following = block[place + 1]
            if following not in (0x00, _FILL) and following not in _ALONE:
                return offset + place
            place += 1 if following == _FILL else 2
        # An FF at the very end of a block is looked at again, together with what follows it.
        offset += place if place >= 0 else len(block)
    raise CutShortError
