"""Reader of MPEG transport streams (ISO/IEC 13818-1), as HLS segments are.

Frames are the elementary packets (PES) of the first video stream, told apart by their presentation times.
Packets that only continue a frame are skipped in bulk: Python reads only a packet here and there.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.recording.containers.mpegts_packets import (
    NULL_PID,
    PACKET,
    PacketBlock,
    PacketLayout,
    PacketReader,
    SectionReader,
    find_layout,
    is_filled_up,
    payloads,
    program_maps,
    program_streams,
    unwrap_payload,
)
from asynccam.recording.containers.mpegts_timeline import TICKS, MpegTsTimeline
from asynccam.recording.containers.raw_video import (
    ZEROS_IN_UNIT,
    VideoCodec,
    begins_picture,
    count_slices,
    has_parameters,
)
from asynccam.recording.containers.reader import FileView, Scan

_HEAD: Final = 1 << 16
_PROBE_BYTES: Final = 1 << 23  # bytes in which the tables and the video are looked for
_MAX_PIDS: Final = 8192
_VIDEO_STREAMS: Final = range(0xE0, 0xF0)
_PRIVATE: Final = 0x06
# Table 2-34, and what ATSC, Blu-ray and AVS have taken from the user's range.
_VIDEO_TYPES: Final = {
    **dict.fromkeys((0x01, 0x02, 0x80), VideoCodec.MPEG2),
    **dict.fromkeys((0x10, 0x21, 0x42, 0xD1, 0xD2, 0xEA), VideoCodec.OTHER),
    0x1B: VideoCodec.H264,
    0x24: VideoCodec.H265,
    0x33: VideoCodec.OTHER,
}
_HEVC_REGISTRATION: Final = b"\x05\x04HEVC"
_PICTURE_HEAD: Final = 16
"""Bytes by which the begin of a picture is recognised: a delimiter, and a parameter set behind it."""
_TAIL_FRAMES: Final = 12
_TAIL: Final = 1 << 22
_NOT_ZERO: Final = re.compile(rb"[^\0]")
_COUNTER_CYCLE: Final = bytes(range(0x10, 0x20)) * 257


def is_mpegts(head: bytes) -> bool:
    """Return whether a file that begins so is a transport stream, maybe behind other bytes."""
    return find_layout(head) is not None


def scan_mpegts(view: FileView) -> Scan:
    """Return frames, duration and flaws of the first video stream."""
    layout = find_layout(view.read_some(0, _HEAD))
    if layout is None:
        return Scan(None, None, note="is of a format that is not understood", understood=False)
    demultiplexer = _Demultiplexer(view, layout, None, VideoCodec.OTHER)
    candidates = _find_videos(view, layout)
    for pid, codec in candidates:
        demultiplexer = _Demultiplexer(view, layout, pid, codec)
        demultiplexer.run()
        if demultiplexer.frames or demultiplexer.is_scrambled:
            break
    if not candidates:
        demultiplexer.run()
    return demultiplexer.scan()


class MpegTsFrames:
    """Frames of a stream's first video, one by one, in constant memory; for use in a thread.

    Iterating gives the presentation time of each frame in ticks, in the order in which frames are shown; None
    where it is not known.
    """

    rate: Final = TICKS  # ticks of a second

    def __init__(self, view: FileView) -> None:
        self.is_scrambled = False  # whether the video is encrypted, so that its frames are unknown
        self._view = view

    def __iter__(self) -> Iterator[int | None]:
        layout = find_layout(self._view.read_some(0, _HEAD))
        if layout is None:
            return
        for pid, codec in _find_videos(self._view, layout):
            demultiplexer = _Demultiplexer(self._view, layout, pid, codec, keeps_times=True)
            for time in demultiplexer.times():
                if demultiplexer.is_scrambled:
                    break
                yield time
            self.is_scrambled = demultiplexer.is_scrambled
            if demultiplexer.frames or demultiplexer.is_scrambled:
                return


def _find_videos(view: FileView, layout: PacketLayout) -> list[tuple[int, VideoCodec]]:
    """Return video streams in the order of the program maps, then those known by their ids only."""
    maps: dict[int, SectionReader] = {0: SectionReader()}
    named: dict[int, VideoCodec] = {}
    private: dict[int, VideoCodec] = {}
    seen: dict[int, VideoCodec] = {}
    for block in PacketReader(view, layout):
        for at, pid, is_start, payload in payloads(block, layout):
            if block.data[at + 1] & 0x80:  # 2.4.3.3: transport_error_indicator
                continue
            if pid in maps:
                for section in maps[pid].feed(payload, is_start):
                    if pid == 0:
                        maps |= {
                            map_pid: SectionReader()
                            for map_pid in program_maps(section)
                            if map_pid not in maps
                        }
                    for kind, stream, descriptors in program_streams(section):
                        if kind == _PRIVATE:
                            private[stream] = (
                                VideoCodec.H265 if _HEVC_REGISTRATION in descriptors else VideoCodec.OTHER
                            )
                        elif kind in _VIDEO_TYPES:
                            named.setdefault(stream, _VIDEO_TYPES[kind])
            elif is_start and payload[:3] == b"\0\0\1" and len(payload) > 3 and payload[3] in _VIDEO_STREAMS:
                seen.setdefault(pid, private.get(pid, VideoCodec.OTHER))
        if block.offset > _PROBE_BYTES and (named or seen):
            break
    return [*named.items(), *((pid, codec) for pid, codec in seen.items() if pid not in named)][:4]


@dataclass(slots=True)
class _PidState:
    """State of the packets of one PID."""

    counter: int  # continuity counter of the last packet
    place: int  # offset of that packet in the file
    is_repeated: bool = False  # whether that packet was sent twice
    missing: int | None = None  # bytes of its elementary packet to come, None if unknown


@dataclass(slots=True)
class _OpenFrame:
    """A frame that has begun."""

    place: int
    shown: int | None
    decoded: int | None


@dataclass(slots=True)
class _Losses:
    """Known losses."""

    packets: int = 0
    errors: int = 0
    zeroed: int = 0
    joints: int = 0
    # Counters that began at 0 again: another stream, if that of the video does so, too.
    pending: int = 0
    # Where the last other stream begins.
    joint: int = -1


class _Demultiplexer:
    """One pass through a file for one video stream."""

    def __init__(
        self,
        view: FileView,
        layout: PacketLayout,
        video: int | None,
        codec: VideoCodec,
        *,
        keeps_times: bool = False,
    ) -> None:
        self._view = view
        self._layout = layout
        self._video = video
        self._codec = codec
        self._packets = PacketReader(view, layout)
        self._pids: dict[int, _PidState] = {}
        self._losses = _Losses()
        self._timeline = MpegTsTimeline(keeps_times=keeps_times)
        self._open: _OpenFrame | None = None
        self._head: tuple[int, bytes] | None = None
        self._places: deque[int] = deque(maxlen=_TAIL_FRAMES)
        self._is_full = False
        self._may_be_cut = False
        self._truncated = ""
        self._has_begun = codec not in (VideoCodec.H264, VideoCodec.H265)
        self.frames = 0  # frames that have begun
        self.keyless = 0  # number of frames before the first that decoding can begin with
        self.is_scrambled = False  # whether the video is encrypted
        high, low = divmod(0xFFFF if video is None else video, 256)
        # Marks of a packet that is more than a piece of a video frame: by each byte of its header.
        self._high = bytes(value & 0xDF != high for value in range(256))
        self._low = bytes(value != low for value in range(256))
        self._flags = bytes(not 0x10 <= value < 0x20 for value in range(256))

    def run(self) -> None:
        """Read the file."""
        for block in self._packets:
            self._take_block(block)
        self._end()

    def times(self) -> Iterator[int | None]:
        """Read the file and yield the frames' times as they come, where they are kept."""
        for block in self._packets:
            self._take_block(block)
            yield from self._timeline.pop_times()
        self._end()
        self._timeline.finish()
        yield from self._timeline.pop_times()

    def _end(self) -> None:
        self._end_head()
        self._losses.packets += self._losses.pending
        self._check_end()
        self._close()

    def _take_block(self, block: PacketBlock) -> None:
        stride, count = self._layout.stride, block.count
        high, low, flags = (block.data[1 + at :: stride][:count] for at in range(3))
        marks = (
            int.from_bytes(high.translate(self._high))
            | int.from_bytes(low.translate(self._low))
            | int.from_bytes(flags.translate(self._flags))
        ).to_bytes(count)
        done = 0
        for found in _NOT_ZERO.finditer(marks):
            at = found.start()
            self._take_run(block, flags, done, at)
            self._take_packet(block, at)
            done = at + 1
        self._take_run(block, flags, done, count)
        if self._codec in (VideoCodec.H264, VideoCodec.H265):
            self._find_zeros(block)

    def _take_run(self, block: PacketBlock, flags: bytes, begin: int, end: int) -> None:
        """Take packets that are nothing but pieces of a video frame."""
        while begin < end and self._video is not None:
            state = self._pids.get(self._video)
            counter = -1 if state is None else state.counter + 1 & 15
            run = flags[begin:end]
            if (
                state is None
                or self._head is not None
                or self._losses.pending
                or run != _COUNTER_CYCLE[counter : counter + len(run)]
            ):
                self._take_packet(block, begin)
                begin += 1
                continue
            state.counter, state.is_repeated = run[-1] & 15, False
            state.place = block.offset + (end - 1) * self._layout.stride
            if state.missing is not None:
                state.missing -= 184 * len(run)
            self._is_full = True
            return

    def _take_packet(self, block: PacketBlock, index: int) -> None:
        data, at = block.data, index * self._layout.stride
        high, flags = data[at + 1], data[at + 3]
        if high & 0x80:  # 2.4.3.3: transport_error_indicator; not even the PID is to be relied on
            self._losses.errors += 1
            return
        pid = (high & 0x1F) << 8 | data[at + 2]
        if pid == NULL_PID:
            return
        unwrapped = unwrap_payload(data, at)
        if unwrapped is None or not flags & 0x30:  # 2.4.3.3: 00 is reserved and to be discarded
            self._losses.errors += 1
            return
        begin, is_announced = unwrapped
        place = block.offset + at
        is_start = bool(high & 0x40)
        has_payload = bool(flags & 0x10)
        if not self._is_next(pid, flags & 15, place, has_payload, is_start, is_announced):
            return
        if not has_payload:
            return
        payload = data[begin : at + PACKET]
        if pid == self._video:
            self.is_scrambled |= bool(flags & 0xC0)
            self._is_full = not is_filled_up(data, at)
        self._take_payload(pid, place, payload, is_start)

    def _is_next(
        self, pid: int, counter: int, place: int, has_payload: bool, is_start: bool, is_announced: bool
    ) -> bool:
        """Return whether the packet is new; compare its continuity counter with the last one (2.4.3.3)."""
        state = self._pids.get(pid)
        if state is None:
            if len(self._pids) < _MAX_PIDS:
                self._pids[pid] = _PidState(counter, place)
            return True
        # The counter of a packet without a payload is that of the one before.
        step = counter - state.counter - has_payload & 15
        if step == 15 and has_payload and not state.is_repeated and self._is_same(state.place, place):
            state.is_repeated = True  # a packet may be sent twice
            return False
        if pid == self._video:
            self._note_other_stream(state, counter, is_start)
        if step and not is_announced and state.place >= self._losses.joint:
            state.missing = None
            if pid != self._video and counter == 0 and is_start:
                self._losses.pending += step
            else:
                self._losses.packets += step
        state.counter, state.place, state.is_repeated = counter, place, False
        return True

    def _note_other_stream(self, video: _PidState, counter: int, is_start: bool) -> None:
        """Note if another stream begins at a video packet: muxers begin with tables and count from 0."""
        losses, table = self._losses, self._pids.get(0)
        if counter == 0 and is_start and table and table.counter == 0 and table.place > video.place:
            if video.counter != 15 or losses.pending:
                self._end_head()
                self._close()
                self._timeline.restart()
                losses.joint, losses.joints = table.place, losses.joints + 1
        else:
            losses.packets += losses.pending
        losses.pending = 0

    def _is_same(self, place: int, other: int) -> bool:
        first, second = (self._view.read_some(offset, PACKET) for offset in (place, other))
        # 2.4.3.3: each byte but those of the clock reference is repeated.
        same_from = 12 if first[3] & 0x20 and first[4] > 6 and first[5] & 0x10 else 4
        return first[:4] == second[:4] and first[same_from:] == second[same_from:]

    def _take_payload(self, pid: int, place: int, payload: bytes, is_start: bool) -> None:
        state = self._pids.get(pid)
        if is_start:
            length = int.from_bytes(payload[4:6]) if payload[:3] == b"\0\0\1" else 0
            if state is not None:
                state.missing = 6 + length - len(payload) if length else None
            if pid == self._video:
                self._end_head()
                self._head = (place, payload)
        else:
            if state is not None and state.missing is not None:
                state.missing -= len(payload)
            if pid == self._video and self._head is not None:
                self._head = (self._head[0], self._head[1] + payload)
        if self._head is not None:
            head = self._head[1]
            if len(head) > 8 and len(head) >= 9 + head[8] + _PICTURE_HEAD:
                self._end_head()

    def _end_head(self) -> None:
        """Take the beginning of an elementary packet of the video (2.4.3.6), as far as it is there."""
        if self._head is None:
            return
        (place, data), self._head = self._head, None
        if data[:3] != b"\0\0\1" or len(data) < 9 or data[6] & 0xC0 != 0x80:
            return
        times = data[7] >> 6
        shown = _timestamp(data[9:14]) if times & 2 else None
        decoded = _timestamp(data[14:19]) if times == 3 else None
        # Some muxers write one packet a slice: with the time of its frame, with that of the next (GStreamer),
        # or with none.
        begins = begins_picture(self._codec, data[9 + data[8] :])
        if shown is None:
            begins = begins or self._codec is VideoCodec.OTHER
        else:
            begins = begins is not False and (self._open is None or self._open.shown != shown)
        if not begins:
            return
        self._close()
        if not self._has_begun and has_parameters(self._codec, data[9 + data[8] :]):
            self._has_begun = True
            self.keyless = self.frames
        self._open = _OpenFrame(place, shown, decoded)
        self._places.append(place)
        self.frames += 1

    def _close(self) -> None:
        if self._open is not None:
            self._timeline.add(self._open.shown, self._open.decoded)
            self._open = None

    def _find_zeros(self, block: PacketBlock) -> None:
        if bytes(32) not in block.data:
            return
        stride = self._layout.stride
        for found in ZEROS_IN_UNIT.finditer(block.data, 0, block.count * stride):
            at = found.start() // stride * stride
            unwrapped = unwrap_payload(block.data, at)
            pid = (block.data[at + 1] & 0x1F) << 8 | block.data[at + 2]
            if unwrapped is not None and pid == self._video and unwrapped[0] <= found.start():
                self._losses.zeroed += found.end() <= at + PACKET

    def _check_end(self) -> None:
        """Find an end that is missing: an open packet, a last frame without a picture."""
        if self._packets.is_cut:
            self._truncated = "ends inside a packet"
        for pid, state in self._pids.items():
            if state.missing is not None and state.missing > 0:
                self._truncated = self._truncated or "ends inside an elementary packet"
                if pid == self._video:
                    self._drop_last()
        video = self._pids.get(NULL_PID if self._video is None else self._video)
        if video is None or video.missing is not None or not self._is_full or self._open is None:
            return
        # A muxer fills the last packet of each frame up (2.4.3.5): one that is full may have had another
        # behind it. That alone is no proof, for some frames fit.
        slices = self._last_slices()
        if slices and slices[-1] == 0:
            self._truncated = self._truncated or "is cut off before its last frame's picture"
            self._drop_last()
        elif len(slices) > _TAIL_FRAMES // 2 and slices[-1] < slices[0] and len({*slices[:-1]}) == 1:
            self._truncated = self._truncated or "is cut off inside its last frame"
        self._may_be_cut = not self._truncated

    def _drop_last(self) -> None:
        if self._open is not None:
            self._open = None
            self.frames -= 1

    def _last_slices(self) -> list[int]:
        """Return the number of slices in each of the last frames, as far as it is known."""
        places = [place for place in self._places if place >= self._view.size - _TAIL]
        if self._codec not in (VideoCodec.H264, VideoCodec.H265) or not places:
            return []
        pieces: list[list[bytes]] = [[] for _ in places]
        for block in PacketReader(self._view, PacketLayout(places[0], self._layout.stride)):
            for at, pid, is_start, payload in payloads(block, self._layout):
                if pid != self._video:
                    continue
                data = payload[9 + payload[8] :] if is_start and len(payload) > 8 else payload
                index = sum(place <= block.offset + at for place in places) - 1
                pieces[index].append(data)
        return [count_slices(self._codec, b"".join(parts)) for parts in pieces]

    def scan(self) -> Scan:
        """Return the scan of the file."""
        if self.is_scrambled:
            return Scan(None, None, note="is encrypted", understood=False)
        packets, losses = self._packets, self._losses
        seconds, usual = self._timeline.finish()
        begin = self._layout.begin - (4 if self._layout.stride == 192 else 0)
        is_zeroed = begin >= PACKET and not any(self._view.read_some(0, PACKET))
        damages = (
            (losses.packets, "has lost {} packet{}"),
            (losses.errors, "has {} packet{} with errors"),
            (packets.stray, "has {} byte{} that are not of packets"),
            (losses.zeroed, "has {} run{} of zeros in its pictures"),
            (packets.zeros >= PACKET and packets.zeros, "ends with {} zero byte{}"),
            (is_zeroed and begin, "begins with {} byte{} that are zeros or no packets"),
        )
        behind = packets.behind if packets.zeros < PACKET else 0
        notes = (
            (begin if not is_zeroed else 0, "has {} byte{} before its first packet"),
            (behind, "has {} byte{} behind its last packet"),
            (self.keyless, "begins with {} frame{} whose key frame is missing"),
            (losses.joints, "is joined to another stream {} time{}"),
            (self._timeline.jumps, "jumps in time {} time{}"),
        )
        note = _sentences(notes)
        if self._may_be_cut:
            note = "; ".join(text for text in (note, "may be cut off inside its last frame") if text)
        return Scan(
            self.frames,
            seconds if self.frames > 1 else None,
            truncated=self._truncated,
            damaged=_sentences(damages),
            note=note,
            interval=usual,
            longest=self._timeline.longest,
        )


def _sentences(parts: Iterable[tuple[int, str]]) -> str:
    return "; ".join(text.format(count, "s" * (count != 1)) for count, text in parts if count)


def _timestamp(data: bytes) -> int | None:
    """Read 33 bits in three parts, each before a marker bit of 1 (2.4.3.6); None if one is missing."""
    if len(data) < 5 or not data[0] & data[2] & data[4] & 1:
        return None
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | data[2] >> 1 << 15 | data[3] << 7 | data[4] >> 1
