"""The picture of a pose run: where it drove, what became of the fixes, and how far off it was
beside what it said it could be.
"""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from mm_fusion.evaluation.figures import RC
from mm_fusion.evaluation.pose_scores import PoseRun, errors
from mm_fusion.evaluation.style import BLUE, GREY, SKY, TRUTH_COLOR, VERMILLION
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

_ELLIPSES = 25
_MOST_POINTS = 4000


def pose_picture(run: PoseRun) -> Figure:
    """Left the track on east and north axes, right errors (or, without a truth, the distances of
    the fixes) with their three-sigma bands over time.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(13.0, 6.6), layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1.05, 1.0))
        _track(figure.add_subplot(grid[:, 0]), run)
        known = errors(run)
        panels = [figure.add_subplot(grid[k, 1]) for k in range(3)]
        if known is not None:
            _bands(panels, known)
        else:
            _residuals(panels, run)
        panels[-1].set_xlabel("time, s")
        return figure


def _track(axes: Axes, run: PoseRun) -> None:
    fixes, used = run.fixes, run.fixes.used()
    if len(fixes.stamps_ns):
        style: Any = {"linestyle": "none", "zorder": 1}
        label = f"fixes used ({used.sum()})" if fixes.refused is not None else "fixes"
        axes.plot(*fixes.enu[used, :2].T, ".", color=GREY, ms=3, label=label, **style)
        if (~used).any():
            label = f"fixes refused ({(~used).sum()})"
            axes.plot(*fixes.enu[~used, :2].T, "x", color=VERMILLION, ms=4, label=label, **style)
    if run.truth is not None and len(run.truth):
        axes.plot(*run.truth.positions[:, :2].T, color=TRUTH_COLOR, lw=2.2, label="truth", zorder=2)
    if len(run.global_):
        axes.plot(*run.global_.positions[:, :2].T, color=BLUE, lw=1.2, label="estimate", zorder=3)
        _ellipses(axes, run)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("east, m")
    axes.set_ylabel("north, m")
    axes.legend(loc="best", fontsize=8.5)
    _look_at_track(axes, run)


def _ellipses(axes: Axes, run: PoseRun) -> None:
    """Three-sigma ellipses, evenly in time."""
    count = min(len(run.stamps_ns), len(run.global_))
    label: str | None = "3 sigma"
    for i in np.unique(np.linspace(0, count - 1, _ELLIPSES).astype(int)):
        u = {name: float(column[i]) for name, column in run.uncertainty.items()}
        matrix = np.array(((u["east2"], u["east_north"]), (u["east_north"], u["north2"])))
        values, vectors = np.linalg.eigh(matrix)
        wide, high = 6.0 * np.sqrt(np.maximum(values[::-1], 0.0))
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        east, north = run.global_.positions[i, :2].tolist()
        axes.add_patch(
            Ellipse(
                (east, north), wide, high, angle=angle, fill=False, ec=BLUE, lw=0.7, label=label
            )
        )
        label = None


def _look_at_track(axes: Axes, run: PoseRun) -> None:
    """A wild fix must not shrink the picture: the track and most fixes count."""
    shown = [t.positions[:, :2] for t in (run.global_, run.truth) if t is not None and len(t)]
    if len(run.fixes.enu):
        low, high = np.percentile(run.fixes.enu[:, :2], (2.0, 98.0), axis=0)
        shown.append(np.array((low, high)))
    if shown:
        points = np.concatenate(shown)
        margin = 0.05 * float(np.ptp(points, axis=0).max()) + 1.0
        axes.set_xlim(points[:, 0].min() - margin, points[:, 0].max() + margin)
        axes.set_ylim(points[:, 1].min() - margin, points[:, 1].max() + margin)


def _bands(panels: list[Axes], known: dict[str, F64]) -> None:
    step = max(1, len(known["seconds"]) // _MOST_POINTS)
    t = known["seconds"][::step]
    for axes, (name, scale, unit) in zip(
        panels, (("east", 1.0, "m"), ("north", 1.0, "m"), ("yaw", 180 / np.pi, "deg")), strict=True
    ):
        error, sigma = scale * known[name][::step], scale * known[f"{name}_sigma"][::step]
        axes.fill_between(t, -3 * sigma, 3 * sigma, color=SKY, alpha=0.3, lw=0, label="±3 sigma")
        axes.plot(t, error, color=BLUE, lw=0.9, label="error")
        axes.set_ylabel(f"{'heading' if name == 'yaw' else name} error, {unit}")
        # Before the heading is found its band is the whole circle.
        late = t > t[0] + 0.15 * (t[-1] - t[0])
        reach = 1.15 * max(float(np.abs(error[late]).max()), float(3 * sigma[late].max()), 1e-3)
        axes.set_ylim(-reach, reach)
    panels[0].legend(loc="upper right", ncols=2, fontsize=8.5)


def _residuals(panels: list[Axes], run: PoseRun) -> None:
    """Fix less estimate, with the band that estimate and claim give together."""
    fixes, used, track = run.fixes, run.fixes.used(), run.global_
    for axes, name in zip(panels, ("east", "north", "horizontal"), strict=True):
        axes.set_ylabel(f"fix - estimate, {name}, m" if name != "horizontal" else "distance, m")
    if not len(track) or not len(fixes.stamps_ns):
        return
    inside = (fixes.stamps_ns >= track.stamps_ns[0]) & (fixes.stamps_ns <= track.stamps_ns[-1])
    stamps, used = fixes.stamps_ns[inside], used[inside]
    t = (stamps - track.stamps_ns[0]) / NS_PER_S
    at = (track.stamps_ns - track.stamps_ns[0]) / NS_PER_S
    index = np.clip(np.searchsorted(run.stamps_ns, stamps), 0, len(run.stamps_ns) - 1)
    off = []
    for k, (axes, name) in enumerate(zip(panels[:2], ("east2", "north2"), strict=True)):
        residual = fixes.enu[inside, k] - np.interp(t, at, track.positions[:, k])
        band = 3.0 * np.sqrt(run.uncertainty[name][index] + fixes.sigma[inside, k] ** 2)
        axes.fill_between(t, -band, band, color=SKY, alpha=0.3, lw=0, label="±3 sigma as claimed")
        axes.plot(t[used], residual[used], ".", color=BLUE, ms=3, label="used")
        axes.plot(t[~used], residual[~used], "x", color=VERMILLION, ms=4, label="refused")
        late = t >= t[0] + 0.05 * (t[-1] - t[0])
        reach = 1.15 * max(float(np.percentile(np.abs(residual), 98)), float(band[late].max()))
        axes.set_ylim(-reach, reach)
        off.append(residual)
    panels[2].plot(t, np.hypot(*off), ".", color=GREY, ms=3)
    panels[0].legend(loc="upper right", ncols=3, fontsize=8.5)
