"""The camera and its streams, under the name the maker's examples import them by."""

from asynccam.systems.nanocam.csi import CSIcamera
from asynccam.systems.nanocam.streams import ImageStream, VideoStream

__all__ = ["CSIcamera", "ImageStream", "VideoStream"]
