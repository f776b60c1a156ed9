"""Videos and pictures made of several recordings; needs more of GStreamer than recording does."""
