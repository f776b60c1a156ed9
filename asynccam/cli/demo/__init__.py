"""The `demo` command: a take with simulated cameras."""
