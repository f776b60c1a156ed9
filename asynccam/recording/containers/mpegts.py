"""Reads the structure of MPEG transport streams (ISO/IEC 13818-1), as HLS segments are."""

from typing import Final

from asynccam.recording.containers.reader import FileView, Intervals, Scan

_PACKET: Final = 188
_PACKETS: Final = 2048
_VIDEO_STREAMS: Final = range(0xE0, 0xF0)
_TICKS: Final = 90_000
_WRAP: Final = 1 << 33


def is_mpegts(head: bytes) -> bool:
    """Whether a file that begins so is read here."""
    return head[:1] == b"\x47" and head[_PACKET : _PACKET + 1] in (b"\x47", b"")


def scan_mpegts(view: FileView) -> Scan:
    """Frames, duration and flaws; a frame is told from the next by its presentation time."""
    frames, flaw = 0, ""
    first: int | None = None
    last = latest = 0
    intervals = Intervals()
    whole = view.size - view.size % _PACKET
    for offset in range(0, whole, _PACKET * _PACKETS):
        data = view.read(offset, min(_PACKET * _PACKETS, whole - offset))
        if data[::_PACKET].strip(b"\x47"):
            flaw = "loses its packet rhythm"
            break
        for at in range(0, len(data), _PACKET):
            if not data[at + 1] & 0x40:  # no elementary packet begins here
                continue
            begin = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            head = data[begin : min(begin + 14, at + _PACKET)]
            is_video = len(head) == 14 and head[:3] == b"\0\0\1" and head[3] in _VIDEO_STREAMS
            if not is_video or not head[7] & 0x80:
                continue
            time = _timestamp(head[9:14])
            if first is None:
                first = time
            # Some muxers write one packet a slice, all with the time of their frame.
            if not frames or time != last:
                frames, last = frames + 1, time
                since = (time - first) % _WRAP
                if since > latest:
                    intervals.add(since - latest)
                    latest = since
    if not flaw and whole != view.size:
        flaw = "ends inside a packet"
    # The last frame lasts as long as the others.
    duration = latest * frames / (frames - 1) / _TICKS if frames > 1 else None
    usual = intervals.usual
    interval = None if usual is None else usual / _TICKS
    return Scan(frames, duration, truncated=flaw, interval=interval)


def _timestamp(data: bytes) -> int:
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | data[2] >> 1 << 15 | data[3] << 7 | data[4] >> 1
