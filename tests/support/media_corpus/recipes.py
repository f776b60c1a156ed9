"""Recipes of the corpus: good files of every container and codec, made by ffmpeg and GStreamer.

Everything is small (128x96, 60 frames at 25 a second, a key frame every 15) and made without threads, so
that two runs of one version write the same pictures.
"""

from dataclasses import dataclass
from typing import Final

FRAMES: Final = 60
RATE: Final = 25

OUT: Final = "{out}"
"""Stands for the file to write in a command; ``{NAME}`` stands for the file of another recipe."""

MP4: Final = "mp4"
MKV: Final = "mkv"
TS: Final = "ts"
AVI: Final = "avi"
FLV: Final = "flv"
RAW: Final = "raw"
JPEG: Final = "jpeg"


@dataclass(frozen=True)
class Recipe:
    """How a good file is made.

    Attributes:
        name: File name, of codec, kind, maker and ending; the only such name.
        container: One of the constants above, or ``""`` for a file that is only an input.
        command: Arguments of ffmpeg or gst-launch-1.0, with `OUT` and the names of other recipes in braces.
        open_ended: Nothing in the format announces its end: cut between two of its units, what is left is a
            whole file. See `mutations.unit_ends`.
    """

    name: str
    container: str
    command: tuple[str, ...]
    open_ended: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def frames(self) -> int:
        """Pictures that a player shows of the file."""
        return _FRAMES_OF.get(self.name, _FRAMES_OF.get(self.name.split(".")[0].split("-")[0], FRAMES))


_FRAMES_OF: Final = {
    "h264pauses": 40,
    "h264b.trimmed.mp4": 29,
    "still.jpg": 1,
    # qtmux gives the last JPEG picture no time, so that no player shows it.
    "jpeg.gst.mov": FRAMES - 1,
}
"""Frames of the files that have not all of them, by name or codec."""


def _ffmpeg(*words: str) -> tuple[str, ...]:
    quiet = ("ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1")
    return (*quiet, *words, "-fflags", "+bitexact", "-flags", "+bitexact", OUT)


_PICTURE: Final = f"testsrc2=size=128x96:rate={RATE}:duration={FRAMES / RATE}"
_PAUSES: Final = f"select='not(mod(n,3))+gt(n,{FRAMES // 2})'"
"""Every third picture of the first half, and every one of the second."""
_X264: Final = "-c:v libx264 -preset veryfast -g 15 -sc_threshold 0 -threads 1 -bf"
_ENCODERS: Final = {
    "h264": f"{_X264} 0",
    "h264b": f"{_X264} 2",
    "h264open": f"{_X264} 2 -x264-params open-gop=1:b-adapt=0",
    "h264pauses": f"-vf {_PAUSES} -fps_mode vfr {_X264} 0",
    "h265b": "-c:v libx265 -preset ultrafast -threads 1"
    " -x265-params log-level=none:keyint=15:min-keyint=15:bframes=2:b-adapt=0:open-gop=0"
    ":pools=none:frame-threads=1",
    "mpeg4": "-c:v mpeg4 -g 15 -q:v 6",
    "mpeg2b": "-c:v mpeg2video -g 15 -bf 2 -q:v 6",
    "mjpeg": "-c:v mjpeg -q:v 5 -pix_fmt yuvj420p",
    "vp8": "-c:v libvpx -g 15 -deadline realtime -cpu-used 8 -b:v 300k -threads 1",
    "vp9": "-c:v libvpx-vp9 -g 15 -deadline realtime -cpu-used 8 -b:v 300k -threads 1",
    "av1": "-c:v libaom-av1 -g 15 -usage realtime -cpu-used 8 -b:v 300k -lag-in-frames 0 -threads 1",
}


def _inputs() -> list[Recipe]:
    """The encoded streams that ffmpeg's files are copied from."""
    recipes = [
        Recipe(f"{codec}.nut", "", _ffmpeg("-f", "lavfi", "-i", _PICTURE, *words.split()))
        for codec, words in _ENCODERS.items()
    ]
    tone = f"sine=frequency=440:sample_rate=48000:duration={FRAMES / RATE}"
    sound = ("-f", "lavfi", "-i", tone, "-c:a")
    return [
        *recipes,
        Recipe("aac.nut", "", _ffmpeg(*sound, "aac", "-b:a", "48k")),
        Recipe("opus.nut", "", _ffmpeg(*sound, "libopus", "-b:a", "32k")),
    ]


def _copy(name: str, container: str, streams: str, words: str = "", *, open_ended: bool = False) -> Recipe:
    """A file that ffmpeg copies encoded streams into, without encoding them again."""
    inputs = [word for stream in streams.split("+") for word in ("-i", f"{{{stream}.nut}}")]
    maps = ["-map", "0:v", *(["-map", "1:a"] if "+" in streams else [])]
    command = _ffmpeg(*inputs, *maps, "-c", "copy", *words.split())
    return Recipe(name, container, command, open_ended)


_FRAGMENTS: Final = "-movflags +frag_keyframe+empty_moov"
_FFMPEG: Final = (
    _copy("h264.plain.mp4", MP4, "h264"),
    _copy("h264b.plain.mp4", MP4, "h264b"),
    _copy("h264b-aac.faststart.mp4", MP4, "h264b+aac", "-movflags +faststart"),
    _copy("h264-aac.fragments.mp4", MP4, "h264+aac", _FRAGMENTS, open_ended=True),
    _copy("h264b.fragments.mp4", MP4, "h264b", f"{_FRAGMENTS}+default_base_moof", open_ended=True),
    _copy("h264b.sidx.mp4", MP4, "h264b", f"{_FRAGMENTS}+dash+global_sidx", open_ended=True),
    _copy("h265b.dash.mp4", MP4, "h265b", f"{_FRAGMENTS}+dash", open_ended=True),
    _copy("h264.moov-then-fragments.mp4", MP4, "h264", "-movflags +frag_keyframe", open_ended=True),
    _copy("h265b-aac.plain.mp4", MP4, "h265b+aac", "-tag:v hvc1"),
    _copy("mpeg4.plain.mp4", MP4, "mpeg4"),
    _copy("vp9.plain.mp4", MP4, "vp9"),
    _copy("av1.faststart.mp4", MP4, "av1", "-movflags +faststart"),
    _copy("mjpeg.plain.mov", MP4, "mjpeg"),
    _copy("h264b-aac.plain.mov", MP4, "h264b+aac"),
    _copy("h264pauses.plain.mp4", MP4, "h264pauses"),
    _copy("h264-aac.begins-at-5.mp4", MP4, "h264+aac", "-output_ts_offset 5"),
    Recipe(
        "h264b.trimmed.mp4", MP4, _ffmpeg("-ss", "0.9", "-i", "{h264b.plain.mp4}", "-c", "copy", "-t", "1.1")
    ),
    _copy("h264b-aac.mkv", MKV, "h264b+aac"),
    _copy("h265b.mkv", MKV, "h265b"),
    _copy("mjpeg-aac.mkv", MKV, "mjpeg+aac"),
    _copy("h264pauses.mkv", MKV, "h264pauses"),
    _copy("h264open.live.mkv", MKV, "h264open", "-live 1", open_ended=True),
    _copy("h264.begins-at-5.mkv", MKV, "h264", "-output_ts_offset 5 -cluster_time_limit 400"),
    _copy("vp8.webm", MKV, "vp8", "-cluster_time_limit 400"),
    _copy("vp9-opus.webm", MKV, "vp9+opus"),
    _copy("av1.webm", MKV, "av1"),
    _copy("h264-aac.ts", TS, "h264+aac", open_ended=True),
    _copy("h264b.ts", TS, "h264b", open_ended=True),
    _copy("h264open.ts", TS, "h264open", open_ended=True),
    _copy("h265b-aac.ts", TS, "h265b+aac", open_ended=True),
    _copy("mpeg2b.ts", TS, "mpeg2b", open_ended=True),
    _copy("h264pauses.ts", TS, "h264pauses", open_ended=True),
    # 2**33 ticks of 90 kHz are 95,443.7 s: the time stamps wrap after about a second.
    _copy("h264b.wraps.ts", TS, "h264b", "-output_ts_offset 95441.3 -muxdelay 0", open_ended=True),
    _copy("h264b-aac.m2ts", TS, "h264b+aac", "-mpegts_m2ts_mode 1", open_ended=True),
    _copy("mjpeg.avi", AVI, "mjpeg"),
    _copy("h264-aac.avi", AVI, "h264+aac"),
    _copy("mpeg4.avi", AVI, "mpeg4"),
    _copy("h264.flv", FLV, "h264"),
    _copy("h264b-aac.flv", FLV, "h264b+aac"),
    _copy("raw.h264", RAW, "h264", "-bsf:v dump_extra"),
    _copy("raw.h265", RAW, "h265b", "-bsf:v dump_extra"),
    Recipe("still.jpg", JPEG, _ffmpeg("-i", "{mjpeg.nut}", "-c", "copy", "-frames:v", "1", "-f", "mjpeg")),
)


def _gst(name: str, container: str, chain: str, *, sound: bool = False, open_ended: bool = False) -> Recipe:
    """A file that GStreamer encodes and writes; ``chain`` is from the encoder to the muxer, named ``mux``."""
    caps = f"video/x-raw,format=I420,width=128,height=96,framerate={RATE}/1"
    words = f"videotestsrc num-buffers={FRAMES} pattern=ball ! {caps} ! {chain} ! filesink location={OUT}"
    if sound:
        blocks = FRAMES * 48000 // RATE // 960
        words += (
            f" audiotestsrc num-buffers={blocks} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1"
            " ! avenc_aac ! aacparse ! queue ! mux."
        )
    return Recipe(name, container, ("gst-launch-1.0", "-q", *words.split()), open_ended)


_X264ENC: Final = "x264enc speed-preset=veryfast key-int-max=15 threads=1 bitrate=400 rc-lookahead=5 bframes="
_H264: Final = f"{_X264ENC}0 ! h264parse ! queue"
_H264B: Final = f"{_X264ENC}2 b-adapt=false ! h264parse ! queue"
_H265: Final = (
    "x265enc speed-preset=ultrafast key-int-max=15 option-string=pools=none:frame-threads=1 ! h265parse"
)
_PICTURES: Final = "jpegenc quality=70 ! jpegparse ! queue"
_SPLIT: Final = "fragment-duration=600"
_GSTREAMER: Final = (
    _gst("h264b.gst.mp4", MP4, f"{_H264B} ! mp4mux name=mux"),
    _gst("h264-aac.gst.faststart.mp4", MP4, f"{_H264} ! mp4mux name=mux faststart=true", sound=True),
    _gst(
        "h264.gst.finalised.mp4",
        MP4,
        f"{_H264} ! mp4mux name=mux {_SPLIT} fragment-mode=first-moov-then-finalise",
    ),
    _gst("h264b.gst.fragments.mp4", MP4, f"{_H264B} ! mp4mux name=mux {_SPLIT}", open_ended=True),
    _gst("h265.gst.mp4", MP4, f"{_H265} ! mp4mux name=mux"),
    _gst("jpeg.gst.mov", MP4, f"{_PICTURES} ! qtmux name=mux"),
    _gst("h264b-aac.gst.mov", MP4, f"{_H264B} ! qtmux name=mux", sound=True),
    _gst("h264b-aac.gst.mkv", MKV, f"{_H264B} ! matroskamux name=mux", sound=True),
    _gst("jpeg.gst.mkv", MKV, f"{_PICTURES} ! matroskamux name=mux"),
    _gst("h264.gst.live.mkv", MKV, f"{_H264} ! matroskamux name=mux streamable=true", open_ended=True),
    _gst("vp8.gst.webm", MKV, "vp8enc deadline=1 keyframe-max-dist=15 threads=1 ! webmmux name=mux"),
    _gst("h264-aac.gst.ts", TS, f"{_H264} ! mpegtsmux name=mux", sound=True, open_ended=True),
    _gst("h264b.gst.ts", TS, f"{_H264B} ! mpegtsmux name=mux", open_ended=True),
    _gst("h264.gst.m2ts", TS, f"{_H264} ! mpegtsmux name=mux m2ts-mode=true", open_ended=True),
    _gst("jpeg.gst.avi", AVI, f"{_PICTURES} ! avimux name=mux"),
    _gst("h264-aac.gst.flv", FLV, f"{_H264} ! flvmux name=mux", sound=True),
)

BASES: Final = (*_FFMPEG, *_GSTREAMER)
"""The good files of the corpus."""
RECIPES: Final = {recipe.name: recipe for recipe in (*_inputs(), *BASES)}
"""Every recipe by its name, inputs included."""
