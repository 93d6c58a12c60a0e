"""The labelled box that stands in the simulator's bare worlds."""

from __future__ import annotations

CUBE = (4.0, 2.0, 1.6)  # length, width, height in metres
