"""Reader of MP4 and QuickTime files, fragmented ones too (ISO/IEC 14496-12, QuickTime File Format)."""

from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.containers.mp4.scan import scan_mp4

__all__ = ["is_mp4", "scan_mp4"]
