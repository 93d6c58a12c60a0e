"""Colours of every picture: the palette of Okabe and Ito, which colour-blind readers can tell."""

from __future__ import annotations

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
INK = "#1A1F26"
GREY = "#8A939E"
PALE = "#D9DEE4"

CLASS_COLORS = {"car": BLUE, "pedestrian": VERMILLION, "cyclist": PURPLE}
TRUTH_COLOR = GREEN
RUN_COLORS = {"fused": BLUE, "lidar": GREEN, "camera": ORANGE}
MODE_COLORS = {"camera+lidar": BLUE, "lidar": GREEN, "camera": ORANGE, "none": GREY}
STAGE_COLORS = {"network": BLUE, "stage": ORANGE, "track": GREEN, "total": INK}


def rgb(color: str) -> tuple[int, int, int]:
    """A colour as three numbers of 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
