"""The execution environment: its settings, logs and metrics."""
