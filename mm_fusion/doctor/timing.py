"""Stamps: rates, gaps, duplicates, order, zeros and steps of one topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.doctor.findings import Finding, error, warn
from mm_fusion.doctor.observations import I64, Observations, Stream

GAP_PERIODS = 1.75  # a distance of stamps above this many periods has lost a message between them
MIN_MESSAGES = 5
LOST_WARN, LOST_ERROR = 0.01, 0.20
STEP_NS = 500_000_000  # stamps that go ahead of the arrivals by this much in one message
UNEVEN = 0.3  # jitter of stamps in periods
SILENT_S, SILENT_PERIODS = 1.0, 5.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How one topic's stamps follow each other. Times in seconds, steps as they happened.

    ``lost`` is the number of messages that the gaps would hold, ``share`` that of all that should
    have come. ``jitter_s`` is half the distance of the 5th and 95th percentile of the periods.
    """

    messages: int
    period_s: float
    jitter_s: float
    gaps: int
    lost: int
    longest_gap_s: float
    zeros: int
    duplicates: int
    reordered: int
    steps_s: tuple[float, ...]

    @property
    def rate_hz(self) -> float:
        """Messages per second of stamps, gaps aside; 0 where not known."""
        return 1.0 / self.period_s if self.period_s > 0.0 else 0.0

    @property
    def lost_share(self) -> float:
        """Lost messages among those that should have come."""
        return self.lost / max(self.lost + self.messages, 1)


def rhythm(stream: Stream, jump_s: float) -> Rhythm:
    """The rhythm of a stream; ``jump_s`` as sync.time_jump_s."""
    all_stamps, arrivals = stream.stamps(), stream.arrivals()
    stamped = all_stamps != 0
    stamps, arrivals = all_stamps[stamped], arrivals[stamped]
    forward = np.diff(stamps)
    ahead = forward - np.diff(arrivals)
    period_ns = _period_ns(forward)
    # A step back counts from the user's limit on; one ahead, where no time passed for it.
    back = forward < -round(jump_s * 1e9)
    leap = (ahead > STEP_NS) & (forward > max(3.0 * period_ns, STEP_NS))
    steps = back | leap
    distances = _distances(stamps, steps)
    gaps = distances[distances > GAP_PERIODS * period_ns] if period_ns else distances[:0]
    even = distances[distances <= GAP_PERIODS * period_ns]
    spread = np.percentile(even, (5, 95)) if len(even) else np.zeros(2)
    return Rhythm(
        messages=len(all_stamps),
        period_s=period_ns / 1e9,
        jitter_s=float(spread[1] - spread[0]) / 2e9,
        gaps=len(gaps),
        lost=int((np.round(gaps / period_ns) - 1).clip(1).sum()) if len(gaps) else 0,
        longest_gap_s=float(gaps.max()) / 1e9 if len(gaps) else 0.0,
        zeros=int((~stamped).sum()),
        duplicates=int((forward == 0).sum()),
        reordered=int(((forward < 0) & ~back).sum()),
        steps_s=tuple((forward[steps] / 1e9).tolist()),
    )


def _period_ns(forward: I64) -> float:
    ahead = forward[forward > 0]
    return float(np.median(ahead)) if len(ahead) else 0.0


def _distances(stamps: I64, steps: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distances of neighbouring different stamps, in order, never across a step."""
    parts = np.split(stamps, np.flatnonzero(steps) + 1)
    found = [np.diff(np.unique(p)) for p in parts if len(p) > 1]
    return np.concatenate(found).astype(np.float64) if found else np.zeros(0)


def lacking(numbers: Sequence[int]) -> int:
    """How many of one publisher's sequence numbers did not come, between the first and the last.

    0 where most of them are missing: then the publisher began anew, or they are no sequence.
    """
    if not numbers:
        return 0
    missed = max(numbers) - min(numbers) + 1 - len(set(numbers))
    return missed if missed <= 100 * len(numbers) else 0


# ------------------------------------------------------------------------------- findings


def check_rhythm(seen: Observations, config: Config) -> list[Finding]:
    """What is wrong with the rhythm of every stream."""
    findings: list[Finding] = []
    for stream in seen.streams.values():
        if not stream.messages:
            findings += _silent(seen, stream)
            continue
        beat = rhythm(stream, config.sync.time_jump_s)
        findings += _check_stamps(stream, beat)
        if stream.role != "camera_info":  # which comes with its images, or only now and then
            findings += _check_losses(stream, beat, seen.live)
            findings += _check_end(seen, stream, beat)
    return findings


def _silent(seen: Observations, stream: Stream) -> list[Finding]:
    if not seen.live:
        return []
    remedy = (
        "See whether the driver is at work; if it is, its messages do not get through: mend the"
        " QoS and the transport first."
    )
    what = f"a publisher is there, and nothing came in {seen.duration_s:.1f} s"
    return [error("silent-topic", stream.topic, what, remedy)]


def _check_stamps(stream: Stream, beat: Rhythm) -> list[Finding]:
    topic, findings = stream.topic, []
    of = f"of {beat.messages} messages"
    if beat.zeros and stream.role != "camera_info":
        remedy = "Have the driver fill in header.stamp: such messages are refused."
        findings.append(error("zero-stamp", topic, f"{beat.zeros} {of} have no stamp", remedy))
    if beat.steps_s:
        listed = ", ".join(f"{s:+.2f} s" for s in beat.steps_s[:4])
        back = any(s < 0 for s in beat.steps_s)
        remedy = (
            "A bag that loops or a clock that was set: synchronize clocks by slewing (chrony, PTP),"
            " and play bags without --loop."
            if back
            else "Find what sets this sensor's clock while it runs; let it slew, not step."
        )
        seen = f"stamps stepped {len(beat.steps_s)} times: {listed}"
        findings.append(error("clock-jump", topic, seen, remedy))
    if stream.role == "camera_info":
        return findings
    if beat.duplicates:
        seen = f"{beat.duplicates} {of} carry the stamp of the one before"
        remedy = (
            "Look for a second publisher or a driver that sends twice: all but one are dropped."
        )
        make = error if beat.duplicates > 0.5 * beat.messages else warn
        findings.append(make("duplicate-stamps", topic, seen, remedy))
    if beat.reordered:
        seen = f"{beat.reordered} {of} are older than the one before"
        remedy = "Look for several publishers, or a driver that stamps in several threads."
        findings.append(warn("out-of-order", topic, seen, remedy))
    return findings


def _check_losses(stream: Stream, beat: Rhythm, live: bool) -> list[Finding]:
    findings = []
    if stream.lost_events:
        seen = f"the middleware reports {stream.lost_events} messages lost on the way here"
        remedy = (
            "Give Fast DDS room: FASTRTPS_DEFAULT_PROFILES_FILE=config/fastdds.xml for the driver"
            " and for every subscriber, and larger socket buffers between hosts."
        )
        findings.append(warn("lost-messages", stream.topic, seen, remedy))
    if beat.messages < MIN_MESSAGES or not beat.period_s:
        return findings
    if beat.lost_share >= LOST_WARN:
        seen = (
            f"about {beat.lost} of {beat.lost + beat.messages} messages ({beat.lost_share:.1%}) are"
            f" missing in {beat.gaps} gaps of the stamps, the longest {beat.longest_gap_s:.2f} s at"
            f" a period of {1e3 * beat.period_s:.1f} ms"
        )
        remedy = (
            "See whether the driver itself skips; if not, use the profile config/fastdds.xml on"
            " both sides and take load off this host."
            if live
            else "See whether the driver skips or the recorder lost them (ros2 bag record"
            " --max-cache-size, a faster disk, config/fastdds.xml)."
        )
        make = error if beat.lost_share >= LOST_ERROR else warn
        findings.append(make("lost-samples", stream.topic, seen, remedy))
    if beat.jitter_s > UNEVEN * beat.period_s:
        seen = f"periods of {1e3 * beat.period_s:.1f} ms vary by {1e3 * beat.jitter_s:.1f} ms"
        remedy = "Stamp with the sensor's own clock, not when the message is made."
        findings.append(warn("uneven-stamps", stream.topic, seen, remedy))
    return findings


def _check_end(seen: Observations, stream: Stream, beat: Rhythm) -> list[Finding]:
    last_ns = int(stream.arrivals().max(initial=0))
    quiet_s = (seen.end_ns - last_ns) / 1e9
    limit_s = max(SILENT_S, SILENT_PERIODS * beat.period_s)
    if not last_ns or quiet_s <= limit_s or beat.messages < MIN_MESSAGES:
        return []
    what = f"the last message came {quiet_s:.1f} s before the end of {seen.duration_s:.1f} s"
    return [warn("stopped", stream.topic, what, "See why the sensor stopped.")]
