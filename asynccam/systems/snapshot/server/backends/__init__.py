"""Ways to capture a still picture: GStreamer, v4l2-ctl, and a test picture."""
