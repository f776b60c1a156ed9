"""A CSI camera's settings, each checked, and the graph they become, word for word."""

from fractions import Fraction
from pathlib import Path

import pytest

from asynccam.errors import StateError, UsageError
from asynccam.recording import Pipeline, SingleFile
from asynccam.recording.elements import Codec
from asynccam.recording.gstreamer import forget_installation
from asynccam.recording.outputs import PictureFiles, RawFrames, RecorderOutput, RtpOutput
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.graph import Media
from asynccam.systems.nanocam.csi.settings import (
    Antibanding,
    EdgeEnhancement,
    Encoder,
    FlipMethod,
    NoiseReduction,
    WhiteBalance,
)

JETSON = frozenset({"nvarguscamerasrc", "nvvidconv", "omxh264enc", "nvjpegenc"})
PROPERTIES = {
    *["name", "parent", "blocksize", "num-buffers", "do-timestamp", "silent", "timeout", "wbmode"],
    *["saturation", "sensor-id", "exposuretimerange", "gainrange", "ispdigitalgainrange", "tnr-strength"],
    *["tnr-mode", "ee-mode", "ee-strength", "aeantibanding", "exposurecompensation", "aelock", "awblock"],
    "maxperf",
}
COUNTER = [
    *["queue", "!", "progressreport", "name=counter", "silent=true", "do-query=false"],
    *["format=buffers", "update-freq=1"],
]


def graph(
    camera: CSIcamera,
    output: RecorderOutput,
    media: Media = "video",
    *,
    frames: int = 0,
    installed: frozenset[str] = JETSON,
) -> list[str]:
    plan = Pipeline(camera.source(media, frames=frames), output).plan(installed)
    return plan.graph.arguments()


def words(text: str) -> list[str]:
    """A line as arguments; ~ stands for a blank within one."""
    return [word.replace("~", " ") for word in text.split()]


# -- settings ---------------------------------------------------------------------------------------


def test_settings_cover_every_property() -> None:
    settings = CSIcamera.settings()
    assert {one.gst for one in settings.values() if one.gst} == PROPERTIES
    beside = {name for name, one in settings.items() if not one.gst}
    assert beside == {"resolution", "framerate", "flip_method", "capture_format", "encoder", "bitrate"}
    assert all(one.__doc__ and one.kind.range in one.__doc__ for one in settings.values())


def test_defaults_are_the_makers_and_not_passed() -> None:
    camera = CSIcamera()
    assert camera.changed == {}
    assert (camera.resolution, camera.framerate) == ((3280, 2464), Fraction(20))
    assert camera.capture_format == "NV12"
    assert (camera.flip_method, camera.encoder) == (FlipMethod.ROTATE_180, Encoder.OMX_H264)
    assert (camera.wbmode, camera.tnr_mode, camera.ee_mode) == (
        WhiteBalance.AUTO,
        NoiseReduction.FAST,
        EdgeEnhancement.FAST,
    )
    assert (camera.saturation, camera.sensor_id, camera.exposure_time_range) == (1.0, 0, None)
    assert camera.do_timestamp is True
    assert camera.ae_lock is False


def test_makers_example() -> None:
    camera = CSIcamera()
    camera.set_sensorid("0")
    camera.set_exposure_time(500000, 100000000)
    camera.set_resolution(1920, 1080)
    assert dict(camera.changed) == {
        "sensor_id": 0,
        "exposure_time_range": (500000, 100000000),
        "resolution": (1920, 1080),
    }


SETTERS: list[tuple[str, tuple[object, ...], str, object]] = [
    ("set_name", ("front",), "name", "front"),
    ("set_blocksize", ("8192",), "blocksize", 8192),
    ("set_num_buffers", (30,), "num_buffers", 30),
    ("set_timestamp", (False,), "do_timestamp", False),
    ("set_silent", ("false",), "silent", False),
    ("set_timeout", ("3",), "timeout", 3),
    ("set_white_balance", (4,), "wbmode", WhiteBalance.WARM_FLUORESCENT),
    ("set_saturation", ("0.5",), "saturation", 0.5),
    ("set_sensorid", (255,), "sensor_id", 255),
    ("set_exposure_time", ("34000", "358733000"), "exposure_time_range", (34000, 358733000)),
    ("set_gain", (1, 16), "gain_range", (1.0, 16.0)),
    ("set_isp_gain", ("1", "8"), "isp_digital_gain_range", (1.0, 8.0)),
    ("set_tnr_strength", (-1,), "tnr_strength", -1.0),
    ("set_tnr_mode", ("high-quality",), "tnr_mode", NoiseReduction.HIGH_QUALITY),
    ("set_edge_enhance_mode", ("OFF",), "ee_mode", EdgeEnhancement.OFF),
    ("set_edge_enhance_strength", (1,), "ee_strength", 1.0),
    ("set_ae_antibanding_mode", ("2",), "aeantibanding", Antibanding.HZ_50),
    ("set_exposure_comp", (-2,), "exposure_compensation", -2.0),
    ("set_auto_exposure_lock", (1,), "ae_lock", True),
    ("set_auto_white_bal_lock", ("true",), "awb_lock", True),
    ("set_max_performance", (True,), "maxperf", True),
    ("set_resolution", ("640", 480), "resolution", (640, 480)),
    ("set_framerate", ("30000/1001",), "framerate", Fraction(30000, 1001)),
    ("set_flip_method", (0,), "flip_method", FlipMethod.NONE),
    ("set_capture_format", ("P010_10LE",), "capture_format", "P010_10LE"),
    ("set_encoder", ("nvv4l2h265enc",), "encoder", Encoder.NVV4L2_H265),
    ("set_bitrate", ("800",), "bitrate", 800),
]


@pytest.mark.parametrize(("setter", "arguments", "name", "value"), SETTERS)
def test_setter_attribute_and_keyword_agree(
    setter: str, arguments: tuple[object, ...], name: str, value: object
) -> None:
    camera = CSIcamera()
    getattr(camera, setter)(*arguments)
    assert getattr(camera, name) == value
    assert type(getattr(camera, name)) is type(value)
    given: object = arguments if len(arguments) > 1 else arguments[0]
    assert CSIcamera().copy(**{name: given}).changed == camera.changed
    setattr(camera, name, None)
    assert camera.changed == {}


def test_every_property_has_a_setter() -> None:
    assert {name for _, _, name, _ in SETTERS} | {"parent"} == set(CSIcamera.settings())
    with pytest.raises(UsageError, match="parent"):
        CSIcamera().set_parent("pipeline0")


WRONG: list[tuple[str, object]] = [
    ("name", "a b"),
    ("name", "1a"),
    ("name", 'x" ! filesink'),
    ("parent", "x"),
    ("blocksize", -1),
    ("blocksize", 2**32),
    ("num_buffers", -2),
    ("timeout", 2**31),
    ("timeout", 1.5),
    ("wbmode", 10),
    ("wbmode", "sunny"),
    ("wbmode", True),
    ("saturation", 2.1),
    ("saturation", float("nan")),
    ("saturation", "inf"),
    ("saturation", True),
    ("sensor_id", 256),
    ("sensor_id", "one"),
    ("sensor_id", False),
    ("exposure_time_range", (2, 1)),
    ("exposure_time_range", (0, 1)),
    ("exposure_time_range", "1"),
    ("exposure_time_range", "1 2 3"),
    ("exposure_time_range", 5),
    ("gain_range", (1, float("inf"))),
    ("isp_digital_gain_range", ("a", "b")),
    ("tnr_strength", -1.01),
    ("tnr_mode", 3),
    ("ee_mode", -1),
    ("ee_strength", 1.5),
    ("aeantibanding", "55hz"),
    ("exposure_compensation", 3),
    ("ae_lock", 2),
    ("ae_lock", "yes"),
    ("awb_lock", 0.5),
    ("maxperf", []),
    ("resolution", (1921, 1080)),
    ("resolution", (8, 8)),
    ("resolution", "1920"),
    ("resolution", 1920),
    ("framerate", 0),
    ("framerate", -20),
    ("framerate", float("nan")),
    ("framerate", "1/0"),
    ("framerate", 1001),
    ("flip_method", 8),
    ("capture_format", "NV12,x=1"),
    ("capture_format", ""),
    ("encoder", "x264enc"),
    ("bitrate", 0),
    ("colour", "red"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_invalid_value_changes_nothing(name: str, value: object) -> None:
    camera = CSIcamera(sensor_id=1)
    with pytest.raises(UsageError, match=name):
        camera.change({"saturation": 2, name: value})
    assert dict(camera.changed) == {"sensor_id": 1}


def test_num_buffers_and_timeout_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude"):
        CSIcamera(timeout=2, num_buffers=20)


def test_copies_are_independent() -> None:
    camera = CSIcamera(device="/dev/video3", sensor_id=1)
    small = camera.with_resolution(640, 480)
    assert (small.resolution, small.sensor_id, small.device) == ((640, 480), 1, "/dev/video3")
    assert camera.resolution == (3280, 2464)
    assert repr(small) == "CSIcamera(device='/dev/video3', sensor_id=1, resolution=(640, 480))"
    source = camera.source()
    camera.set_sensorid(2)
    assert source.camera.sensor_id == 1
    with pytest.raises(UsageError, match="device"):
        CSIcamera(device="")


# -- the Jetson's graph -----------------------------------------------------------------------------

SENSOR = words(
    "nvarguscamerasrc ! capsfilter "
    'caps="video/x-raw(memory:NVMM),width=3280,height=2464,format=NV12,framerate=20/1" ! '
    'nvvidconv flip-method=2 ! capsfilter caps="video/x-raw,width=3280,height=2464" !'
)


def test_video_to_a_file_on_a_jetson(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert graph(CSIcamera(), SingleFile(path, plain=True)) == [
        *SENSOR,
        *words("omxh264enc ! h264parse !"),
        *COUNTER,
        *words(f"! qtmux ! filesink location={path}"),
    ]


def test_video_to_udp_on_a_jetson() -> None:
    assert graph(CSIcamera(), RtpOutput("192.168.1.20", 5004)) == [
        *SENSOR,
        *words("omxh264enc ! h264parse !"),
        *COUNTER,
        *words('! capsfilter caps="video/x-h264,stream-format=byte-stream" !'),
        *words("rtph264pay pt=96 config-interval=-1 ! udpsink host=192.168.1.20 port=5004"),
    ]


def test_pictures_on_a_jetson(tmp_path: Path) -> None:
    camera = CSIcamera(sensor_id=1)
    assert graph(camera, PictureFiles(tmp_path, max_files=1), "pictures", frames=20) == [
        *words("nvarguscamerasrc sensor-id=1 num-buffers=20"),
        *SENSOR[1:],
        "nvjpegenc",
        "!",
        *COUNTER,
        *words(f'! multifilesink location="{tmp_path}/frame-%05d.jpg" max-files=1 index=0'),
    ]


def test_frames_in_memory_on_a_jetson() -> None:
    assert graph(CSIcamera(), RawFrames(7), "raw") == [
        *SENSOR[:-2],
        *words('caps="video/x-raw,width=3280,height=2464,format=BGRx" !'),
        *COUNTER,
        *words('! videoconvert ! capsfilter caps="video/x-raw,format=BGR" !'),
        *words("gdppay crc-header=false ! fdsink fd=7 sync=false"),
    ]


def test_set_values_are_passed_as_properties() -> None:
    camera = CSIcamera(
        name="front",
        blocksize=8192,
        num_buffers=30,
        do_timestamp=False,
        silent=False,
        wbmode="shade",
        saturation=0.5,
        sensor_id="1",
        exposure_time_range=(500000, 100000000),
        gain_range=(1, 10.5),
        isp_digital_gain_range="1 8",
        tnr_strength=-0.25,
        tnr_mode="high_quality",
        ee_mode="off",
        ee_strength=1,
        aeantibanding="hz_60",
        exposure_compensation=-1.5,
        ae_lock=True,
        awb_lock=True,
        maxperf=True,
        resolution=(1920, 1080),
        framerate=29.97,
        flip_method="clockwise",
        capture_format="NV12",
        encoder="nvv4l2h264enc",
        bitrate=8000,
    )
    assert graph(camera, RtpOutput("::1", 5004))[: -len(COUNTER) - 12] == words(
        "nvarguscamerasrc name=front blocksize=8192 do-timestamp=false silent=false wbmode=8 saturation=0.5 "
        'sensor-id=1 exposuretimerange="500000~100000000" gainrange="1~10.5" ispdigitalgainrange="1~8" '
        "tnr-strength=-0.25 tnr-mode=2 ee-mode=0 ee-strength=1.0 aeantibanding=3 exposurecompensation=-1.5 "
        "aelock=true awblock=true maxperf=true ! capsfilter "
        'caps="video/x-raw(memory:NVMM),width=1920,height=1080,format=NV12,framerate=2997/100" ! '
        'nvvidconv flip-method=3 ! capsfilter caps="video/x-raw,width=1080,height=1920" ! '
        "nvv4l2h264enc bitrate=8000000 ! h264parse"
    )


@pytest.mark.parametrize("settings", [{"timeout": 5}, {"num_buffers": 7}])
def test_video_has_no_length(settings: dict[str, int]) -> None:
    arguments = graph(CSIcamera().copy(**settings), RtpOutput("h", 1))
    assert arguments[:2] == ["nvarguscamerasrc", "!"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "num-buffers=20"), ({"num_buffers": 7}, "num-buffers=7"), ({"timeout": 5}, "timeout=5")],
)
@pytest.mark.parametrize("media", ["pictures", "raw"])
def test_picture_has_one_length(settings: dict[str, int], said: str, media: Media, tmp_path: Path) -> None:
    output = PictureFiles(tmp_path) if media == "pictures" else RawFrames(7)
    assert graph(CSIcamera().copy(**settings), output, media, frames=20)[1:3] == [said, "!"]


@pytest.mark.parametrize(
    ("encoder", "codec"),
    [(encoder, encoder.value.removeprefix("omx").removeprefix("nvv4l2")[:-3]) for encoder in Encoder],
)
def test_every_encoder_can_be_sent(encoder: Encoder, codec: Codec) -> None:
    camera = CSIcamera(encoder=encoder)
    assert camera.source().codec == codec
    arguments = graph(camera, RtpOutput("h", 1))
    assert encoder.value in arguments
    assert f"rtp{codec}pay" in arguments
    assert (f"{codec}parse" in arguments) == (codec in ("h264", "h265"))


def test_jetson_without_openmax_uses_the_other_encoder() -> None:
    later = frozenset({"nvarguscamerasrc", "nvv4l2h264enc"})
    assert "nvv4l2h264enc" in graph(CSIcamera(), RtpOutput("h", 1), installed=later)
    told = CSIcamera(encoder=Encoder.OMX_H264)
    assert "omxh264enc" in graph(told, RtpOutput("h", 1), installed=later)


# -- the stand-in's graph ---------------------------------------------------------------------------

SOFTWARE = frozenset({"videotestsrc", "x264enc"})


def test_off_a_jetson_a_test_picture_replaces_the_camera(tmp_path: Path) -> None:
    camera = CSIcamera(sensor_id=1, wbmode="shade", resolution=(640, 480), framerate=10, bitrate=500)
    path = tmp_path / "a.mkv"
    assert graph(camera, SingleFile(path), installed=SOFTWARE) == [
        *words("videotestsrc is-live=true pattern=ball ! capsfilter"),
        *words('caps="video/x-raw,width=640,height=480,format=NV12,framerate=10/1" !'),
        *words(
            "videoconvert ! videoflip video-direction=2 !"
            ' capsfilter caps="video/x-raw,width=640,height=480" !'
        ),
        *words('videoconvert ! capsfilter caps="video/x-raw,format=I420" !'),
        *words("x264enc bitrate=500 tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 !"),
        *words("h264parse !"),
        *COUNTER,
        *words(f"! matroskamux offset-to-zero=true ! filesink location={path}"),
    ]


def test_device_replaces_the_camera_on_a_jetson(tmp_path: Path) -> None:
    camera = CSIcamera(device="/dev/video0", resolution=(640, 480), flip_method=0)
    assert graph(camera, PictureFiles(tmp_path), "pictures", frames=3) == [
        *words(
            "v4l2src device=/dev/video0 num-buffers=3 ! decodebin ! videoconvert ! videoscale ! videorate !"
        ),
        *words('capsfilter caps="video/x-raw,width=640,height=480,format=NV12,framerate=20/1" !'),
        *words("videoconvert ! jpegenc !"),
        *COUNTER,
        *words(f'! multifilesink location="{tmp_path}/frame-%05d.jpg" max-files=0 index=0'),
    ]


@pytest.mark.parametrize("method", list(FlipMethod))
def test_stand_in_is_turned_as_on_a_jetson(method: FlipMethod) -> None:
    arguments = graph(CSIcamera(flip_method=method), RawFrames(7), "raw", installed=SOFTWARE)
    directions = {
        FlipMethod.NONE: None,
        FlipMethod.COUNTERCLOCKWISE: "video-direction=3",
        FlipMethod.ROTATE_180: "video-direction=2",
        FlipMethod.CLOCKWISE: "video-direction=1",
        FlipMethod.HORIZONTAL_FLIP: "video-direction=4",
        FlipMethod.UPPER_RIGHT_DIAGONAL: "video-direction=7",
        FlipMethod.VERTICAL_FLIP: "video-direction=5",
        FlipMethod.UPPER_LEFT_DIAGONAL: "video-direction=6",
    }
    said = [word for word in arguments if word.startswith("video-direction")]
    assert said == [direction for direction in [directions[method]] if direction]
    if method in (1, 3, 5, 7):
        assert 'caps="video/x-raw,width=2464,height=3280"' in arguments


async def test_stand_in() -> None:
    assert await CSIcamera().look() == "test picture (videotestsrc) and software encoders"
    assert CSIcamera().stand_in == "test picture (videotestsrc) and software encoders"
    device = CSIcamera(device="/dev/video7")
    assert device.stand_in == "V4L2 camera /dev/video7 (v4l2src) and software encoders"


async def test_stand_in_is_unknown_before_look() -> None:
    forget_installation()
    with pytest.raises(StateError, match="look"):
        _ = CSIcamera().stand_in
    await CSIcamera().look()
    assert CSIcamera().stand_in is not None
