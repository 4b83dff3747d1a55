"""The bench: `scripts/bench` measures the figures to reach, with peers and limits beside them.

Timings are reported and never asserted: a slow machine makes a slow table, not a failure.
"""
