"""A MultiCam device: this computer as a camera of a MultiCam controller."""
