"""The diagrams of the report, each as a matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.scenes import Scene
from mm_fusion.evaluation.style import (
    BLUE,
    CLASS_COLORS,
    GREY,
    INK,
    MODE_COLORS,
    PALE,
    PURPLE,
    RUN_COLORS,
    TRUTH_COLOR,
    VERMILLION,
)
from mm_fusion.geometry import box_corners
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

RC: Any = {
    "font.size": 9.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECEFF2",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 110,
}
VEHICLE = np.array([[2.0, 0.0], [-1.2, 0.9], [-0.6, 0.0], [-1.2, -0.9]])
REGION_M = (-25.6, 51.2, -25.6, 25.6)  # what the picture shows where no network says its range


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        return figure, figure.add_subplot()


# ---------------------------------------------------------------------------- bird's eye


def birds_eye(scene: Scene, region: tuple[float, float, float, float] = REGION_M) -> Figure:
    """Points, detections and truth from above, in the base frame: x forward is to the right."""
    figure, axes = _figure(11.0, 7.4)
    low, high = 0.2, 3.0
    height = np.clip(scene.points[:, 2], low, high) if len(scene.points) else np.zeros(0)
    axes.scatter(
        scene.points[:, 0],
        scene.points[:, 1],
        c=height,
        s=1.1,
        cmap="Greys",
        vmin=low - 1.8,
        vmax=high - 0.6,
        linewidths=0,
        rasterized=True,
    )
    for radius in (10, 20, 30, 40, 50):
        ring = np.linspace(0, 2 * np.pi, 181)
        axes.plot(radius * np.cos(ring), radius * np.sin(ring), color=PALE, lw=0.7, zorder=1)
        axes.annotate(f"{radius} m", (0, radius), color=GREY, fontsize=7.5, clip_on=True)
    for box in scene.truth:
        _outline(
            axes, box.center, box.size, box.yaw, TRUTH_COLOR, "--" if box.counted else ":", 1.5
        )
    for found in scene.detections:
        _detection(axes, found)
    axes.add_patch(Polygon(VEHICLE, color=INK, zorder=5))
    axes.set(
        xlim=region[:2],
        ylim=region[2:],
        aspect="equal",
        xlabel="x forward (m)",
        ylabel="y left (m)",
    )
    axes.grid(visible=False)
    _box_legend(axes, scene)
    return figure


def _detection(axes: Axes, found: Mapping[str, Any]) -> None:
    """One box with its score, and an arrow over a second of its motion."""
    color = CLASS_COLORS.get(found["class"], INK)
    _outline(axes, found["center"], found["size"], found["yaw"], color, "-", 1.8)
    x, y = found["center"][:2]
    vx, vy = found["velocity"]
    if np.hypot(vx, vy) > 0.5:
        axes.annotate("", (x + vx, y + vy), (x, y), arrowprops={"arrowstyle": "->", "color": color})
    axes.annotate(
        f"{found['score']:.2f}",
        (x, y),
        (5, 5),
        textcoords="offset points",
        color=color,
        fontsize=7.5,
        clip_on=True,
    )


def _outline(
    axes: Axes,
    center: npt.ArrayLike,
    size: npt.ArrayLike,
    yaw_rad: float,
    color: str,
    line: str,
    width: float,
) -> None:
    ground = box_corners(center, size, yaw_rad)[:4, :2]
    axes.add_patch(
        Polygon(ground, closed=True, fill=False, edgecolor=color, linestyle=line, lw=width)
    )
    nose = (ground[0] + ground[1]) / 2
    middle = ground.mean(axis=0)
    axes.plot(*np.stack([middle, nose]).T, color=color, lw=width * 0.8, linestyle=line)


def _box_legend(axes: Axes, scene: Scene) -> None:
    entries = [Line2D([], [], color=c, lw=1.8, label=name) for name, c in CLASS_COLORS.items()]
    if scene.truth:
        entries.append(Line2D([], [], color=TRUTH_COLOR, ls="--", lw=1.5, label="truth"))
        entries.append(
            Line2D([], [], color=TRUTH_COLOR, ls=":", lw=1.5, label="truth, hidden (not scored)")
        )
    axes.legend(
        frameon=False,
        handles=entries,
        loc="upper left",
        ncols=len(entries),
        bbox_to_anchor=(0, 1.07),
    )


# ---------------------------------------------------------------------------- trajectory


def trajectory(
    pose: Trajectory, truth: Trajectory | None, gps: Trajectory | None, local: Trajectory | None
) -> Figure:
    """Where the vehicle was, from above: east to the right, north up."""
    figure, axes = _figure(11.0, 6.2)
    if gps is not None and len(gps):
        axes.plot(
            *gps.positions[:, :2].T, ".", color=VERMILLION, ms=3.5, alpha=0.55, label="raw GPS"
        )
    if truth is not None and len(truth):
        axes.plot(*truth.positions[:, :2].T, color=TRUTH_COLOR, lw=4.5, alpha=0.5, label="truth")
    if local is not None and len(local):
        axes.plot(
            *local.positions[:, :2].T,
            color=PURPLE,
            lw=1.2,
            ls="--",
            label="local estimate",
        )
    if len(pose):
        axes.plot(*pose.positions[:, :2].T, color=BLUE, lw=1.6, label="global estimate")
        axes.plot(*pose.positions[0, :2], "o", color=BLUE, ms=6)
        first = (float(pose.positions[0, 0]), float(pose.positions[0, 1]))
        axes.annotate("start", first, (6, 6), textcoords="offset points")
    axes.set(xlabel="east (m)", ylabel="north (m)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, loc="best")
    return figure


def position_error(
    estimate: Sequence[tuple[str, F64, F64]], ylabel: str = "horizontal error (m)"
) -> Figure:
    """Errors over time: (name, seconds [N], error [N]) of "global estimate" and "raw GPS"."""
    figure, axes = _figure(11.0, 2.8)
    for name, seconds, error in estimate:
        raw = name == "raw GPS"
        axes.plot(
            seconds,
            error,
            "." if raw else "-",
            color=VERMILLION if raw else BLUE,
            ms=4,
            lw=1.6,
            alpha=0.6 if raw else 1.0,
            label=name,
        )
    axes.set(xlabel="time (s)", ylabel=ylabel, ylim=(0, None))
    axes.legend(frameon=False, loc="upper right", ncols=2)
    return figure


# --------------------------------------------------------------------- times, modes, scores


def latency(total_ms: F64, percentiles: Mapping[str, float], label: str) -> Figure:
    """Histogram of the time per set with its median, 90 % and 99 % marked."""
    figure, axes = _figure(5.4, 3.2)
    top = max(float(np.percentile(total_ms, 99.5)) * 1.15, 1e-3)
    axes.hist(np.minimum(total_ms, top), bins=40, range=(0, top), color=BLUE, alpha=0.85)
    for (name, value), line in zip(
        ((k, percentiles[k]) for k in ("p50", "p90", "p99")), ("-", "--", ":"), strict=True
    ):
        axes.axvline(min(value, top), color=INK, lw=1.2, ls=line, label=f"{name} {value:.1f} ms")
    axes.set(xlabel=f"{label} (ms)", ylabel="sets")
    axes.legend(frameon=False, loc="upper right")
    return figure


def stages(latency_ms: Mapping[str, Mapping[str, float]]) -> Figure:
    """Median and 90 % of every station."""
    figure, axes = _figure(5.4, 3.2)
    names = [n for n in latency_ms if n != "total"] + ["total"] * ("total" in latency_ms)
    rows = np.arange(len(names))[::-1]
    axes.barh(rows, [latency_ms[n]["p90"] for n in names], 0.62, color=PALE, label="p90")
    axes.barh(rows, [latency_ms[n]["p50"] for n in names], 0.62, color=BLUE, label="median")
    for row, name in zip(rows, names, strict=True):
        axes.annotate(
            f" {latency_ms[name]['p50']:.1f}", (latency_ms[name]["p90"], row), va="center"
        )
    axes.set_yticks(rows, names)
    axes.set(xlabel="time per set (ms)")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="lower right", ncols=2, bbox_to_anchor=(1.0, 1.0))
    return figure


def modes(seconds: F64, names: Sequence[str]) -> Figure:
    """Which senses took part, over time."""
    figure, axes = _figure(11.0, 1.7)
    present = [m for m in MODE_COLORS if m in set(names)]
    for row, mode in enumerate(present):
        at = seconds[[n == mode for n in names]]
        axes.plot(at, np.full(len(at), row), "|", color=MODE_COLORS[mode], ms=13, mew=1.6)
    axes.set_yticks(range(len(present)), present)
    axes.set(xlabel="time (s)", ylim=(-0.6, len(present) - 0.4))
    axes.grid(visible=False, axis="y")
    return figure


def scores(detection: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Average precision of each run, by class and in the mean, with the mean's 95 % interval."""
    figure, axes = _figure(11.0, 3.4)
    runs = [r for r in RUN_COLORS if r in detection]
    classes = [c for c, s in detection["fused"]["classes"].items() if s["mean_ap"] is not None]
    groups = ["mean", *classes]
    width = 0.8 / len(runs)
    for i, run in enumerate(runs):
        values = [detection[run]["mean_ap"] or 0.0]
        values += [detection[run]["classes"][c]["mean_ap"] or 0.0 for c in classes]
        at = np.arange(len(groups)) + (i - (len(runs) - 1) / 2) * width
        axes.bar(at, values, width * 0.92, color=RUN_COLORS[run], label=run)
        for x, value in zip(at, values, strict=True):
            axes.annotate(
                f"{value:.2f}",
                (x, value),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        interval = detection[run].get("mean_ap_ci95")
        if interval:
            axes.plot([at[0] - width * 0.3] * 2, interval, color=INK, lw=1.4)
    axes.set_xticks(range(len(groups)), ["all classes", *classes])
    axes.set(ylabel="average precision", ylim=(0, 1.08))
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, loc="upper right", ncols=len(runs))
    return figure


def seconds_since(stamps_ns: Sequence[int] | npt.NDArray[np.int64], start_ns: int) -> F64:
    """Stamps as seconds after a start."""
    return (np.asarray(stamps_ns, dtype=np.int64) - start_ns) / NS_PER_S
