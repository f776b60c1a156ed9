"""``asynccam demo``: a take with simulated cameras."""
