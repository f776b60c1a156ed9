"""The asynccam command: the only place that prints."""
