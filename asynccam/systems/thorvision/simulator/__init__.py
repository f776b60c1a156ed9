"""A ThorVision server in software, for tests and trials."""
