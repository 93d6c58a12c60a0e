"""Clocks: stamps against arrivals, sensor by sensor, and the sensors against each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mm_fusion.config import Config
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.inputs import SENSORS
from mm_fusion.doctor.observations import I64, Observations, Stream
from mm_fusion.health.clocks import Offset, SensorClock

JUMP_NS = 100_000_000
FUTURE_NS = 5_000_000
FUTURE_ERROR_MS = 50.0
ODD_MS, BAD_MS = 250.0, 2_000.0  # delay against the other sensors that is worth a word, an error
ELSEWHERE_MS = 60_000.0  # no delay: another clock
DRIFT_PPM = 200.0  # quartz is within 100
MIN_MESSAGES = 8
EPOCH_NS = 1_000_000_000 * 1_000_000_000  # September 2001: stamps before are no wall time
PAIRED_WARN, PAIRED_ERROR = 0.9, 0.5


@dataclass(frozen=True, slots=True)
class ClockState:
    """One stream's clock: the estimate, and whether it follows /clock rather than the arrivals."""

    stream: Stream
    offset: Offset
    median_ms: float
    simulated: bool


def clock_states(seen: Observations) -> list[ClockState]:
    """The state of every sensor of which enough came."""
    found = []
    for role in SENSORS:
        for stream in seen.of_role(role):
            state = clock_state(stream)
            if state is not None:
                found.append(state)
    return found


def clock_state(stream: Stream) -> ClockState | None:
    """Stamps against arrivals, or against /clock where they are nearer to that."""
    stamps, arrivals, clocks = stream.stamps(), stream.arrivals(), stream.clocks()
    stamped = stamps != 0
    if stamped.sum() < MIN_MESSAGES:
        return None
    simulated = bool((stamped & (clocks != 0)).sum() > stamped.sum() // 2)
    if simulated:
        stamped &= clocks != 0
        simulated = _apart(clocks[stamped], stamps[stamped]) < _apart(
            arrivals[stamped], stamps[stamped]
        )
    received = (clocks if simulated else arrivals)[stamped]
    stamps = stamps[stamped]
    clock = SensorClock(JUMP_NS, FUTURE_NS)
    if simulated:
        clock.resolution_ns = _step_ns(received)
    for stamp_ns, arrival_ns in zip(stamps.tolist(), received.tolist(), strict=True):
        clock.add(stamp_ns, arrival_ns)
    median_ms = float(np.median(received - stamps)) / 1e6
    return ClockState(stream, clock.estimate(), median_ms, simulated)


def _apart(a: I64, b: I64) -> float:
    return abs(float(np.median(a - b)))


def _step_ns(clock: I64) -> int:
    """The step in which /clock comes."""
    steps = np.diff(np.unique(clock))
    return int(np.median(steps)) if len(steps) else 0


# ------------------------------------------------------------------------------- findings


def check_clocks(seen: Observations, config: Config) -> list[Finding]:
    """Sensors whose clock is off, drifts or lies ahead; simulated and wall time mixed up."""
    states = clock_states(seen)
    findings = _check_sim_time(seen, states) or _check_offsets(states)
    for state in states:
        findings += _check_own(seen, state)
    return findings + _check_pairs(seen, config)


def _check_sim_time(seen: Observations, states: list[ClockState]) -> list[Finding]:
    """Which sensors follow which clock; empty where all follow the one that arrivals are on."""
    simulated = [s for s in states if s.simulated]
    wall = [s for s in states if not s.simulated and abs(s.median_ms) < ELSEWHERE_MS]
    findings = _check_nodes(seen, bool(simulated))
    if simulated and wall:
        seen_text = f"{_names(simulated)} follow /clock, {_names(wall)} the wall clock"
        remedy = "Set use_sim_time to true in every node, the drivers included, or in none."
        return [*findings, error("mixed-time", "use_sim_time", seen_text, remedy)]
    elsewhere = [s for s in states if not s.simulated and abs(s.median_ms) >= ELSEWHERE_MS]
    if not elsewhere:
        return findings
    if len(elsewhere) < len(states):
        return findings  # a sensor of its own: said beside the others
    return [*findings, *_all_elsewhere(seen, elsewhere)]


def _all_elsewhere(seen: Observations, states: list[ClockState]) -> list[Finding]:
    offsets = [s.median_ms / 1e3 for s in states]
    if max(offsets) - min(offsets) > ODD_MS / 1e3 * 4:
        return []
    what = f"all stamps are {statistics.median(offsets):.1f} s from the time of their arrival"
    if not seen.live:
        remedy = "Recorded from a simulation or a playback: nothing to do, the stamps agree."
        return [info("other-time", "clock", f"{what}, and agree with each other", remedy)]
    if seen.clock_publishers:
        what += ", and /clock says neither"
    remedy = (
        "Play a bag with --clock and set use_sim_time to true in the nodes; on a robot synchronize"
        " the hosts' clocks (chrony, PTP)."
    )
    return [warn("other-time", "clock", what, remedy)]


def _check_nodes(seen: Observations, simulated: bool) -> list[Finding]:
    findings = []
    for node, sim_time in seen.sim_time.items():
        if sim_time and not seen.clock_publishers:
            what = "use_sim_time is true and nobody publishes /clock: its time stands still"
            remedy = "Set use_sim_time to false, or play with --clock."
            findings.append(error("sim-time", node, what, remedy))
        elif simulated and not sim_time:
            what = "use_sim_time is false, and the sensors follow /clock"
            remedy = "Set use_sim_time to true in this node."
            findings.append(error("sim-time", node, what, remedy))
    return findings


def _names(states: list[ClockState]) -> str:
    return ", ".join(s.stream.topic for s in states)


def _check_offsets(states: list[ClockState]) -> list[Finding]:
    """Against the median of all, which one far-off clock does not move."""
    if len(states) == 1 and abs(states[0].median_ms) > BAD_MS:
        return [_off(states[0], states[0].median_ms, "their arrival")]
    findings = []
    usual_ms = common_ms([s.median_ms for s in states])
    for state in states:
        away_ms = state.median_ms - usual_ms
        if abs(away_ms) > ODD_MS:
            findings.append(_off(state, away_ms, "the other sensors"))
    return findings


def common_ms(offsets_ms: Sequence[float]) -> float:
    """The median; of an even number the middle one that is nearer to the arrivals.

    So that of two sensors one is believed, and the mean of a good and a bad one never is.
    """
    if not offsets_ms:
        return 0.0
    middle = (statistics.median_low(offsets_ms), statistics.median_high(offsets_ms))
    return min(middle, key=abs)


def _off(state: ClockState, away_ms: float, against: str) -> Finding:
    side = "behind" if away_ms > 0 else "ahead of"
    what = (
        f"stamps are {abs(away_ms) / 1e3:.3f} s {side} {against} (median of arrival minus stamp:"
        f" {state.median_ms / 1e3:.3f} s)"
    )
    remedy = (
        "Synchronize this sensor's clock (PTP, chrony), or stamp at the exposure instead of at"
        " the arrival."
    )
    if state.stream.role == "camera":
        remedy += " A constant rest goes into sync.camera_offsets_s."
    make = error if abs(away_ms) > BAD_MS else warn
    return make("clock-skew", state.stream.topic, what, remedy)


def _check_own(seen: Observations, state: ClockState) -> list[Finding]:
    offset, topic, findings = state.offset, state.stream.topic, []
    ahead_ms = -state.median_ms
    if not state.simulated and FUTURE_NS / 1e6 < ahead_ms < ELSEWHERE_MS:
        what = f"stamps lie {ahead_ms:.1f} ms in the future of their arrival (median)"
        remedy = (
            "Set this sensor's clock by the host's (PTP, chrony): nothing arrives before it is."
        )
        make = error if ahead_ms > FUTURE_ERROR_MS else warn
        findings.append(make("future-stamps", topic, what, remedy))
    if offset.drift_ppm is not None and offset.drift_sigma_ppm is not None:
        sure = abs(offset.drift_ppm) > DRIFT_PPM + 3.0 * offset.drift_sigma_ppm
        if sure:
            what = (
                f"its clock drifts by {offset.drift_ppm:+.0f} ppm"
                f" (sigma {offset.drift_sigma_ppm:.0f}) against the arrivals:"
                f" {abs(offset.drift_ppm) * 3.6e-3:.1f} s in an hour"
            )
            remedy = "Synchronize this sensor's clock (PTP, chrony)."
            findings.append(warn("clock-drift", topic, what, remedy))
    if offset.jumps:
        what = f"its clock stepped {offset.jumps} times, last by {offset.last_jump_ms:+.0f} ms"
        remedy = "Let the clock slew instead of step while the robot runs."
        findings.append(warn("clock-step", topic, what, remedy))
    if offset.bursts and seen.live:
        what = (
            f"messages came in {offset.bursts} bursts after up to {offset.longest_burst_ms:.0f} ms"
        )
        remedy = "Look for a host or a link under load."
        findings.append(info("bursts", topic, what, remedy))
    return findings


# ------------------------------------------------------------ cameras against the LIDAR


def _check_pairs(seen: Observations, config: Config) -> list[Finding]:
    """Whether the sweeps of the first LIDAR find a partner in every camera."""
    lidar = seen.stream("lidar")
    if lidar is None:
        return []
    findings = []
    for camera in seen.of_role("camera"):
        sweeps, frames = _overlapping(lidar.stamps(), _shifted(camera, config))
        if len(sweeps) < MIN_MESSAGES or len(frames) < MIN_MESSAGES:
            continue
        nearest_ms = nearest_ns(sweeps, frames) / 1e6
        paired = float((np.abs(nearest_ms) <= 1e3 * config.sync.max_dt_s).mean())
        if paired < PAIRED_WARN:
            what = (
                f"{paired:.0%} of the sweeps have an image within {1e3 * config.sync.max_dt_s:.0f}"
                f" ms; the nearest is {np.median(np.abs(nearest_ms)):.1f} ms away (median)"
            )
            remedy = (
                "Trigger camera and LIDAR together or raise the camera's rate; a constant"
                " difference of clocks goes into sync.camera_offsets_s."
            )
            make = error if paired < PAIRED_ERROR else warn
            findings.append(make("no-partners", camera.topic, what, remedy))
    if not findings and seen.of_role("camera"):
        findings += _check_overlap(lidar, seen.of_role("camera"), config)
    return findings


def _shifted(camera: Stream, config: Config) -> I64:
    offsets_s = config.sync.camera_offsets_s
    offset_s = offsets_s[camera.slot] if len(offsets_s) > 1 else offsets_s[0]
    return camera.stamps() + round(offset_s * 1e9)


def _check_overlap(lidar: Stream, cameras: list[Stream], config: Config) -> list[Finding]:
    """Stamps of camera and LIDAR that never lie in the same time at all."""
    findings = []
    for camera in cameras:
        sweeps, frames = lidar.stamps(), _shifted(camera, config)
        if min(len(sweeps), len(frames)) < MIN_MESSAGES:
            continue
        gap_s = max(int(sweeps.min() - frames.max()), int(frames.min() - sweeps.max())) / 1e9
        if gap_s > 0.0:
            what = f"its stamps and those of {lidar.topic} are {gap_s:.1f} s apart: no set has both"
            remedy = "Put both sensors on one clock (PTP, chrony, use_sim_time)."
            findings.append(error("no-partners", camera.topic, what, remedy))
    return findings


def _overlapping(a: I64, b: I64) -> tuple[I64, I64]:
    """The stamps of both within the time in which both were there."""
    a, b = np.unique(a[a != 0]), np.unique(b[b != 0])
    if not len(a) or not len(b):
        return a[:0], b[:0]
    start, end = max(a[0], b[0]), min(a[-1], b[-1])
    return a[(a >= start) & (a <= end)], b


def nearest_ns(wanted: I64, others: I64) -> I64:
    """For each of ``wanted`` [n] the signed distance to the nearest of ``others`` (sorted), ns."""
    after = np.searchsorted(others, wanted).clip(1, max(len(others) - 1, 1))
    right = others[after.clip(max=len(others) - 1)] - wanted
    left = others[after - 1] - wanted
    return np.where(np.abs(left) <= np.abs(right), left, right)
