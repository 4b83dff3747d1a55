"""Bytes to frozen dataclasses and back: the only place that knows the layout and the version."""
