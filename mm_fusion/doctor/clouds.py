"""Point clouds: time fields, intensity, points that are none, claims that do not hold."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mm_fusion.config import Config
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.observations import CloudHead, Observations, Stream
from mm_fusion.doctor.timing import rhythm

NAN_WARN, ZERO_WARN = 0.5, 0.2
FEW_SHARE = 0.5  # a cloud with fewer of the usual number of points is a jump
SPAN = (0.5, 1.25)  # how long the points of a sweep take, in periods
MILLIMETRES_M = 500.0  # no LIDAR's usual distance in metres
FULL_OUTSIDE = 2.0  # intensity above its full scale


def check_clouds(seen: Observations, config: Config) -> list[Finding]:
    """Everything about the content of the LIDARs' messages."""
    findings: list[Finding] = []
    for stream in seen.of_role("lidar"):
        period_s = rhythm(stream, config.sync.time_jump_s).period_s
        findings += _check_heads(stream)
        if stream.looks:
            findings += _check_points(stream)
            findings += _check_times(stream, period_s)
            findings += _check_intensity(stream)
            findings += _check_budget(stream, seen)
    return findings


def describe(stream: Stream) -> str:
    """Points and layout, for the table."""
    if not stream.heads:
        return ""
    head = stream.heads[-1]
    points = statistics.median(h.height * h.width for h in stream.heads)
    shape = f"{head.height}x{head.width}" if head.height > 1 else "unorganised"
    return f"{_thousands(points)} points, {shape}"


def _thousands(count: float) -> str:
    return f"{count / 1e3:.1f} k" if count >= 1000 else f"{count:.0f}"


# -------------------------------------------------------------------------------- heads


def _check_heads(stream: Stream) -> list[Finding]:
    heads, topic = stream.heads, stream.topic
    counts = np.array([h.height * h.width for h in heads])
    findings = []
    empty = int((counts == 0).sum())
    if empty:
        what = f"{empty} of {len(counts)} clouds have no points"
        remedy = "See what the driver or the filter before it leaves out: empty clouds are refused."
        make = error if empty > 0.5 * len(counts) else warn
        findings.append(make("empty-clouds", topic, what, remedy))
    full = counts[counts > 0]
    if len(full) >= 5:
        usual = float(np.median(full))
        few = int((full < FEW_SHARE * usual).sum())
        if few:
            what = (
                f"{few} of {len(full)} clouds have less than half of the usual {usual:.0f} points,"
                f" the smallest {int(full.min())}"
            )
            remedy = "Look for lost packets between the LIDAR and its driver, or partial sweeps."
            findings.append(warn("point-count", topic, what, remedy))
    return findings + _check_tables(heads, topic)


def _check_tables(heads: Sequence[CloudHead], topic: str) -> list[Finding]:
    tables = Counter(h.fields for h in heads)
    if len(tables) < 2:
        return []
    listed = " and ".join("(" + " ".join(t) + ")" for t, _ in tables.most_common(2))
    remedy = "Let one driver publish on one topic."
    return [warn("fields-change", topic, f"clouds come with the fields {listed}", remedy)]


# -------------------------------------------------------------------------------- points


def _check_points(stream: Stream) -> list[Finding]:
    looks, topic = stream.looks, stream.topic
    findings = []
    nan = statistics.median(look.nan_share for look in looks)
    worst = max(look.nan_share for look in looks)
    if worst > 0.0 and stream.heads and all(h.is_dense for h in stream.heads):
        what = f"is_dense is true, and up to {worst:.1%} of the points are not finite"
        remedy = "Have the driver set is_dense to false; here such points are left out anyway."
        findings.append(warn("is-dense", topic, what, remedy))
    if worst >= 1.0:
        what = f"of {len(looks)} clouds, at least one has not a single finite point"
        findings.append(error("no-points", topic, what, "See what the driver measures."))
    elif nan > NAN_WARN:
        remedy = "Normal under open sky; if not, look at the LIDAR's window and its range limits."
        findings.append(info("nan-share", topic, f"{nan:.0%} of the points are NaN", remedy))
    zero = statistics.median(look.zero_share for look in looks)
    if zero > ZERO_WARN:
        what = f"{zero:.0%} of the points are at the sensor itself (0 0 0)"
        remedy = "Have the driver leave out invalid points, or make them NaN."
        findings.append(warn("zero-points", topic, what, remedy))
    range_m = statistics.median(look.range_m for look in looks)
    if range_m > MILLIMETRES_M:
        what = f"the points are {range_m:.0f} m away (median)"
        remedy = "Coordinates are in millimetres, it seems: publish metres (REP-103)."
        findings.append(error("units", topic, what, remedy))
    return findings


def _check_budget(stream: Stream, seen: Observations) -> list[Finding]:
    budget = seen.model.point_budget if seen.model else 0
    usual = statistics.median(look.points for look in stream.looks)
    if not budget or usual <= budget:
        return []
    what = f"{usual:.0f} points a sweep, the network takes {budget}"
    return [info("thinned", stream.topic, f"{what}: they are thinned evenly")]


# --------------------------------------------------------------------------------- times


def _check_times(stream: Stream, period_s: float) -> list[Finding]:
    looks, topic = stream.looks, stream.topic
    refused = next((look for look in looks if look.remark and look.span_ns is None), None)
    if refused is not None:
        remedy = (
            "Say what it is with lidar.time_field, lidar.time_unit and lidar.time_reference, or"
            " have the driver send offsets from the stamp; till then nothing is deskewed."
        )
        return [warn("time-field", topic, refused.remark, remedy)]
    timed = [(look, look.span_ns) for look in looks if look.span_ns is not None]
    if not timed:
        remedy = "Switch per-point times on in the driver: without them nothing is deskewed."
        return [info("no-time-field", topic, "points carry no time of their own", remedy)]
    lengths_s = [(span[1] - span[0]) / 1e9 for _, span in timed]
    length_s = statistics.median(lengths_s)
    if length_s <= 0.0:
        what = f"{stream.meaning}: every point has the same time"
        remedy = "Switch per-point times on in the driver: without them nothing is deskewed."
        return [warn("time-field", topic, what, remedy)]
    what = f"{stream.meaning}; a sweep lasts {1e3 * length_s:.1f} ms"
    if period_s:
        what += f" of a period of {1e3 * period_s:.1f} ms"
    findings = [info("point-times", topic, what)]
    if period_s and not SPAN[0] <= length_s / period_s <= SPAN[1]:
        remedy = (
            "If the unit is not that, set lidar.time_unit; else see whether the driver sends whole"
            " sweeps: deskewing follows these times."
        )
        findings = [warn("time-span", topic, what, remedy)]
    first, last = timed[len(timed) // 2][1]
    if last < -0.5 * length_s or first > 0.5 * length_s:
        remedy = (
            "Set lidar.time_reference, or have the driver stamp the sweep's start, middle or end."
        )
        findings.append(warn("stamp-outside", topic, what, remedy))
    return findings


# ----------------------------------------------------------------------------- intensity


def _check_intensity(stream: Stream) -> list[Finding]:
    looks, topic = stream.looks, stream.topic
    names = {look.intensity_field for look in looks}
    if names == {""}:
        what = "no field of intensity or reflectivity"
        remedy = "Switch it on in the driver: the network uses it."
        return [warn("no-intensity", topic, what, remedy)]
    findings = []
    low = min(look.intensity_min for look in looks)
    high = max(look.intensity_max for look in looks)
    name = looks[-1].intensity_field
    what = f"field '{name}' is {low:g} .. {high:g} in {len(looks)} clouds"
    if low == high:
        remedy = "See why the driver gives no intensity: the network uses it."
        findings.append(warn("intensity", topic, f"{what}: it tells nothing", remedy))
    elif low < 0.0:
        remedy = "Have the driver give intensities of 0 and more."
        findings.append(warn("intensity", topic, what, remedy))
    not_finite = max(look.intensity_nan_share for look in looks)
    if not_finite > max(look.nan_share for look in looks) + 0.01:
        seen = f"up to {not_finite:.1%} of the intensities are not finite"
        findings.append(warn("intensity", topic, seen, "Have the driver give finite values."))
    scales = sorted({round(1.0 / look.intensity_scale) for look in looks if look.intensity_scale})
    if len(scales) > 1 and low != high:
        listed = " and ".join(map(str, scales))
        seen = f"{what}; its full scale looks like {listed} from sweep to sweep"
        remedy = f"Set lidar.intensity_max to the sensor's full scale, such as {scales[-1]}."
        findings.append(warn("intensity-scale", topic, seen, remedy))
    elif high * looks[-1].intensity_scale > FULL_OUTSIDE:
        seen = f"{what}, its full scale is taken as {scales[-1]}"
        remedy = "Set lidar.intensity_max to the sensor's full scale."
        findings.append(warn("intensity-scale", topic, seen, remedy))
    return findings
