"""The Jetson's CSI camera and its streams."""
