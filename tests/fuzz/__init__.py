"""Fuzzing: whatever comes in, the worst that may happen is a refusal.

CI searches for some seconds; `MESHCHAT_FUZZ=50 scripts/test tests/fuzz` searches fifty times as long. What a
search finds is mended, and kept as a file in `tests/corpus` (see `tests/fuzz/corpus.py`).
"""

import os

from hypothesis import HealthCheck, settings

_FACTOR = float(os.environ.get("MESHCHAT_FUZZ", "1"))


def search(examples: int) -> settings:
    """Settings for a search of so many examples in CI, and of `MESHCHAT_FUZZ` times as many by hand."""
    return settings(
        max_examples=max(1, round(examples * _FACTOR)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
