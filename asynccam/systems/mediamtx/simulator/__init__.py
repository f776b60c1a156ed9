"""A MediaMTX Camera Service in software, for tests and trials."""
