"""The course of a training run as a picture: ``curves.png`` beside ``log.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVES = "curves.png"
SHOWN = ("loss", "heat", "boxes", "spread", "segmentation", "depth")
SMOOTH = 9  # lines of the log that a smoothed value averages over


def draw_curves(log: Path) -> Path | None:
    """Draw what ``log`` tells, one panel a loss, raw and smoothed, with the learning rate under
    the first; answers the picture's path, None where the log is empty."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    if not lines:
        return None
    shown = [name for name in SHOWN if any(line[name] for line in lines)]
    steps = np.array([line["step"] for line in lines])
    figure = Figure(figsize=(12.0, 3.0 * ((len(shown) + 2) // 3)), layout="constrained")
    axes = figure.subplots((len(shown) + 2) // 3, 3, squeeze=False).ravel()
    for axis, name in zip(axes, shown, strict=False):
        values = np.array([line[name] for line in lines])
        axis.plot(steps, values, color="#b8cfe5", linewidth=0.8)
        axis.plot(steps, smoothed(values), color="#0072b2", linewidth=1.6)
        axis.set_title(name, loc="left")
        axis.set_xlabel("step")
        axis.grid(color="#e6e6e6")
    rate = axes[0].twinx()
    rate.plot(steps, [line["learning_rate"] for line in lines], color="#999999", linewidth=0.8)
    rate.set_ylabel("learning rate", color="#777777")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    path = log.with_name(CURVES)
    FigureCanvasAgg(figure).print_png(path)
    return path


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over up to SMOOTH neighbours; fewer at the ends."""
    window = np.ones(min(SMOOTH, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
