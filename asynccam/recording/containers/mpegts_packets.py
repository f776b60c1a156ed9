"""Packets of MPEG transport streams (ISO/IEC 13818-1, 2.4.3): their places in a file, and their tables.

A packet has 188 bytes. Disc recorders put a time stamp of 4 bytes in front of each (192 bytes), and
broadcast receivers leave 16 bytes of parity behind it (204 bytes).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.recording.containers.reader import FileView

PACKET: Final = 188
SYNC: Final = b"\x47"
NULL_PID: Final = 0x1FFF

_STRIDES: Final = (188, 192, 204)
_BLOCK_PACKETS: Final = 4096  # packets in a block
_SURE_PACKETS: Final = 8  # packets in a row by which a stream is known that begins behind other bytes
_SEARCH_BLOCK: Final = 1 << 20
# The association table or the description of services begins in it, as in the first packet of most files.
_TABLES: Final = re.compile(rb"\x47[\x40\x60][\x00\x11][\x10-\x3f]")


@dataclass(frozen=True, slots=True)
class PacketLayout:
    """Offset of the first sync byte in a file, and the stride to the next: 188, 192 or 204."""

    begin: int
    stride: int


@dataclass(frozen=True, slots=True)
class PacketBlock:
    """Packets in a row."""

    offset: int  # of the first packet in the file
    data: bytes  # bytes from the first sync byte on
    count: int  # number of whole packets


def _sync_pattern(stride: int, packets: int) -> re.Pattern[bytes]:
    """Return the pattern of sync bytes in a row, each in a header with an adaptation field or payload.

    2.4.3.3: adaptation_field_control 00 is reserved. That also keeps long runs of the byte 47 out.
    """
    header = b".{2}[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff]"
    gap = b".{%d}\x47" % (stride - 4)
    return re.compile(b"\x47(?=" + gap.join([header] * packets) + b")", re.DOTALL)


_FIRST: Final = {stride: _sync_pattern(stride, _SURE_PACKETS) for stride in _STRIDES}
_NEXT: Final = {stride: _sync_pattern(stride, 4) for stride in _STRIDES}


def find_layout(head: bytes) -> PacketLayout | None:
    """Return where the packets stand in a file that begins so, or None if it is not a transport stream."""
    found = [(match.start(), stride) for stride in _STRIDES if (match := _FIRST[stride].search(head))]
    if found:
        begin, stride = min(found)
        # The packets before may have some flaw among them.
        front = 4 if stride == 192 else 0
        for earlier in (front, *range(begin % stride, begin, stride)):
            syncs = head[earlier : earlier + stride + 1 : stride]
            if syncs == SYNC * 2 or (earlier == front == begin % stride and syncs[:1] == SYNC):
                return PacketLayout(earlier, stride)
        return PacketLayout(begin, stride)
    # Too short for that: packets have to be everything that is there.
    for stride, begin in ((188, 0), (192, 4), (204, 0)):
        syncs = head[begin::stride]
        if not syncs or syncs.strip(SYNC):
            continue
        if _TABLES.match(head, begin) or (len(syncs) > 3 and _NEXT[stride].match(head, begin)):
            return PacketLayout(begin, stride)
    return None


class PacketReader:
    """Packets of a file in blocks, past bytes that are not of packets."""

    def __init__(self, view: FileView, layout: PacketLayout) -> None:
        self._view = view
        self._layout = layout
        self._offset = layout.begin
        self.stray = 0  # bytes between packets that are not of any, or of one whose sync byte is spoiled
        self.zeros = 0  # bytes behind the last packet, if all of them are 0
        self.behind = 0  # bytes behind the last packet
        self.is_cut = False  # whether the file ends inside a packet

    def __iter__(self) -> Iterator[PacketBlock]:
        stride = self._layout.stride
        while self._offset < self._view.size:
            data = self._view.read_some(self._offset, _BLOCK_PACKETS * stride)
            # No packet follows the last one, so neither do a time stamp or parity.
            whole = (len(data) + stride - PACKET) // stride
            syncs = data[::stride][:whole]
            good = whole - len(syncs.lstrip(SYNC))
            if good:
                yield PacketBlock(self._offset, data, good)
            self._offset += good * stride
            if good == whole and len(data) == _BLOCK_PACKETS * stride:
                continue
            if not self._resynchronise():
                return

    def _resynchronise(self) -> bool:
        """Go to the next packet, or note the end of the file; return whether there is one."""
        begin = offset = self._offset
        while offset < self._view.size:
            data = self._view.read_some(offset, _SEARCH_BLOCK)
            is_last = offset + len(data) >= self._view.size
            at = self._next_packet(data, is_last)
            if at is not None:
                self._offset = offset + at
                self.stray += self._offset - begin
                return True
            if is_last:
                break
            offset += len(data) - 3 * self._layout.stride
        self._note_end(begin)
        return False

    def _next_packet(self, data: bytes, is_last: bool) -> int | None:
        stride = self._layout.stride
        match = _NEXT[stride].search(data)
        if match is not None:
            return match.start()
        # Near the end of the file fewer packets have to do: two, or one in the old rhythm.
        at = max(0, len(data) - 4 * stride) if is_last else len(data)
        while 0 <= (at := data.find(SYNC, at)) <= len(data) - PACKET:
            syncs = data[at::stride]
            if not syncs.strip(SYNC) and data[at + 3] & 0x30 and (len(syncs) > 1 or at % stride == 0):
                return at
            at += 1
        return None

    def _note_end(self, begin: int) -> None:
        """Note the bytes behind the last packet, from its end or the end of its parity on."""
        size, stride = self._view.size, self._layout.stride
        if stride == 192:
            begin -= 4  # the time stamp in front of a packet that is not there
        elif stride == 204 and size < begin:
            self.is_cut = True  # inside the parity
            return
        rest = size - begin
        if rest <= 0:
            return
        head = self._view.read_some(begin, stride)
        sync = head[4:5] if stride == 192 else head[:1]
        if rest < stride and sync in (SYNC, b""):
            self.is_cut = True
            return
        self.behind = rest
        if self._view.is_zeros(begin):
            self.zeros = rest


def unwrap_payload(data: bytes, at: int) -> tuple[int, bool] | None:
    """Return where the payload of the packet at ``at`` begins, and whether a discontinuity is announced.

    None if the packet's adaptation field is longer than the packet (2.4.3.4).
    """
    if not data[at + 3] & 0x20:
        return at + 4, False
    length = data[at + 4]
    if length > (182 if data[at + 3] & 0x10 else 183):
        return None
    return at + 5 + length, length > 0 and bool(data[at + 5] & 0x80)


def is_filled_up(data: bytes, at: int) -> bool:
    """Return whether the packet at ``at`` has stuffing, as the last packet of a frame has (2.4.3.4 and 5).

    A field with a clock reference alone has none, and says nothing about where its frame ends.
    """
    if not data[at + 3] & 0x20:
        return False
    length = data[at + 4]
    if length == 0:
        return True
    flags = data[at + 5]
    end = 1 + (6 if flags & 0x10 else 0) + (6 if flags & 0x08 else 0) + (1 if flags & 0x04 else 0)
    # Private data and extensions of the standard state their own length.
    for flag in (0x02, 0x01):
        if flags & flag:
            if end >= length:
                return False
            end += 1 + data[at + 5 + end]
    return length > end


def payloads(block: PacketBlock, layout: PacketLayout) -> Iterator[tuple[int, int, bool, bytes]]:
    """Yield the packets with a payload: place in the block, PID, whether a unit starts, and the payload."""
    data = block.data
    for at in range(0, block.count * layout.stride, layout.stride):
        unwrapped = unwrap_payload(data, at)
        if unwrapped is not None and data[at + 3] & 0x10:
            pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
            yield at, pid, bool(data[at + 1] & 0x40), data[unwrapped[0] : at + PACKET]


class SectionReader:
    """Sections of one PID (2.4.4), put together from their packets."""

    def __init__(self) -> None:
        self._section = b""

    def feed(self, payload: bytes, is_start: bool) -> list[bytes]:
        """Return the sections that are whole with this payload, from table_id to CRC."""
        if is_start:
            if not payload:
                return []
            pointer = payload[0]
            whole = self._split(self._section + payload[1 : 1 + pointer]) if self._section else []
            self._section = payload[1 + pointer :]
            return whole + self._take()
        if not self._section:
            return []
        self._section += payload
        return self._take()

    def _take(self) -> list[bytes]:
        whole = self._split(self._section)
        used = sum(map(len, whole))
        self._section = self._section[used:]
        if self._section[:1] == b"\xff":  # 2.4.4: stuffing goes to the end of the packet
            self._section = b""
        return whole

    @staticmethod
    def _split(data: bytes) -> list[bytes]:
        sections = []
        while len(data) >= 3 and data[0] != 0xFF:
            length = 3 + (int.from_bytes(data[1:3]) & 0xFFF)
            if len(data) < length:
                break
            sections.append(data[:length])
            data = data[length:]
        return sections


def program_maps(section: bytes) -> list[int]:
    """Return the PIDs of the program maps in a program association (2.4.4.3)."""
    if section[:1] != b"\0" or len(section) < 12:
        return []
    entries = [section[at : at + 4] for at in range(8, len(section) - 7, 4)]
    # Program 0 is the network's own table.
    return [int.from_bytes(entry[2:]) & 0x1FFF for entry in entries if any(entry[:2])]


def program_streams(section: bytes) -> list[tuple[int, int, bytes]]:
    """Return type, PID and descriptors of each stream in a program map (2.4.4.8)."""
    if section[:1] != b"\x02" or len(section) < 16:
        return []
    at = 12 + (int.from_bytes(section[10:12]) & 0xFFF)
    found = []
    while at + 5 <= len(section) - 4:
        length = int.from_bytes(section[at + 3 : at + 5]) & 0xFFF
        pid = int.from_bytes(section[at + 1 : at + 3]) & 0x1FFF
        found.append((section[at], pid, section[at + 5 : at + 5 + length]))
        at += 5 + length
    return found
