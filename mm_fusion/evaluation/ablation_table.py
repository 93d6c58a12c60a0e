"""The table of the ablation as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap, Normalize

from mm_fusion.evaluation.style import BLUE, GREY, INK, ORANGE, PALE, VERMILLION

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SCOPE_NAMES = {"grid": "all that the network looks at", "view": "within the camera's view"}
MODES = ("fused", "camera", "lidar")
UNFAIR = (
    "{modes}: no network of its own, the fused one with the other sense withheld; the ratio is"
    " that of unequal peers"
)


def text(result: Mapping[str, Any]) -> str:
    """Both scopes as tables."""
    lines = [f"{result['frames_folder']}: {result['frames']} frames, {result['metric']}"]
    note = unfair(result)
    lines += [note] if note else []
    for scope, table in result["scopes"].items():
        lines += ["", f"{SCOPE_NAMES[scope]}:"]
        head = f"{'':<26}{'frames':>7}{'fused':>8}{'camera':>8}{'lidar':>8}{'/clean':>8}"
        lines.append(f"{head}{'/best':>8}{'95 %':>16}{'ECE':>8}{'P':>7}{'R':>7}")
        for row in table["conditions"]:
            lines.append(_line(row))
        s = table["summary"]
        lines.append(f"mean relative robustness {_n(s['mean_relative'])}")
        lines.append(f"  without the missing senses {_n(s['mean_relative_both_senses'])}")
        if s["worst_ratio"]:
            worst = s["worst_ratio"]
            lines.append(f"worst fused / best single {_n(worst['value'])}: {worst['condition']}")
    return "\n".join(lines)


def unfair(result: Mapping[str, Any]) -> str:
    """What to say of modes without a network of their own, "" where there is none."""
    modes = [m for m, n in result["networks"].items() if not n["own"]]
    return UNFAIR.format(modes=", ".join(modes)) if modes else ""


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['condition']:<26}{row['frames']:>7}"
    if "left_out" in row:
        return f"{name}  left out: {row['left_out']}"
    maps = "".join(f"{_n((row[m] or {}).get('map')):>8}" for m in MODES)
    p = row["fused"]["published"]
    return (
        f"{name}{maps}{_n(row['fused']['relative']['value']):>8}{_n(row['ratio']['value']):>8}"
        f"{_span(row['ratio']['ci95']):>16}{_n(p['ece']):>8}"
        f"{_n(p['precision'], 2):>7}{_n(p['recall'], 2):>7}"
    )


def _n(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(values: list[float] | None) -> str:
    return "" if values is None else f"{values[0]:.3f}-{values[1]:.3f}"


# -------------------------------------------------------------------------------- picture

COLUMNS = ("fused", "camera\nonly", "LIDAR\nonly", "fused /\nclean", "fused /\nbest single", "ECE")
_MAP = LinearSegmentedColormap.from_list("map", ["#FFFFFF", BLUE])
_RATIO = LinearSegmentedColormap.from_list("ratio", [VERMILLION, "#FFFFFF", BLUE])


def picture(result: Mapping[str, Any], path: Path) -> None:
    """Write the tables of both scopes side by side as a PNG."""
    count = len(result["scopes"]["grid"]["conditions"])
    figure, axes = plt.subplots(
        1, 2, figsize=(15.0, 1.9 + 0.31 * count), sharey=True, layout="constrained"
    )
    for axis, (scope, table) in zip(axes, result["scopes"].items(), strict=True):
        _draw(axis, scope, table["conditions"])
    names = {m: n["model"] for m, n in result["networks"].items() if n["own"]}
    title = f"mAP ({result['metric']}) on {result['frames']} frames, {result['fault_frames']} under"
    note = unfair(result) or ", ".join(f"{m}: {Path(n).name}" for m, n in names.items())
    figure.suptitle(f"{title} faults\n{note}", fontsize=10, color=INK)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(axis: Any, scope: str, rows: list[Mapping[str, Any]]) -> None:
    axis.set_xlim(0, len(COLUMNS))
    axis.set_ylim(len(rows), 0)
    axis.set_title(SCOPE_NAMES[scope], fontsize=11, color=INK)
    axis.set_xticks([k + 0.5 for k in range(len(COLUMNS))], COLUMNS, fontsize=9)
    axis.xaxis.tick_top()
    axis.set_yticks([k + 0.5 for k in range(len(rows))])
    axis.set_yticklabels([r["condition"] for r in rows], fontsize=9)
    axis.tick_params(length=0, colors=INK)
    for side in axis.spines.values():
        side.set_visible(False)
    for y, row in enumerate(rows):
        if "left_out" in row:
            axis.text(0.1, y + 0.5, "left out", va="center", fontsize=8, color=GREY)
            continue
        for x, (value, color, label) in enumerate(_cells(row)):
            face = color if value is not None else PALE
            axis.add_patch(plt.Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, color=face, lw=0))
            dark = value is not None and sum(matplotlib.colors.to_rgb(face)) < 1.5
            axis.text(
                x + 0.5,
                y + 0.5,
                label,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )


def _cells(row: Mapping[str, Any]) -> list[tuple[float | None, Any, str]]:
    """Value, colour and text of each column."""
    about_one = Normalize(0.85, 1.15)
    out: list[tuple[float | None, Any, str]] = []
    for mode in MODES:
        value = (row[mode] or {}).get("map")
        out.append((value, _MAP(value or 0.0), _n(value)))
    relative, ratio = row["fused"]["relative"]["value"], row["ratio"]
    out.append((relative, _MAP(relative or 0.0), _n(relative)))
    span = ratio["ci95"]
    label = _n(ratio["value"]) + (f"\n{_span(span)}" if span else "")
    out.append((ratio["value"], _RATIO(about_one(ratio["value"] or 1.0)), label))
    ece = row["fused"]["published"]["ece"]
    out.append((ece, ORANGE if (ece or 0.0) > 0.05 else "#FFFFFF", _n(ece)))
    return out
