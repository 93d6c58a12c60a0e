"""TF: whether every sensor has a place on the robot, and whether it is only one."""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Sequence

from mm_fusion.config import Config
from mm_fusion.doctor.collect import is_odd
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.observations import Link, Observations, Stream
from mm_fusion.errors import CalibrationError
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration

# Two static transforms of one child differ when they differ by more than a calibration's noise.
SAME_M, SAME_RAD = 1e-3, 1e-3
CAMERA_OR_LIDAR = ("camera", "lidar")


def calibration(seen: Observations, config: Config) -> Calibration:
    """What the nodes would know of the robot's build after the same transforms."""
    known = Calibration(config)
    moving = {config.frames.odom.lstrip("/"), config.frames.map.lstrip("/")}
    for link in seen.links:
        if link.parent in moving or is_odd(link):
            continue
        try:
            rigid = RigidTransform.from_quaternion(link.translation, link.xyzw)
            known.set_transform(link.parent, link.child, rigid)
        except CalibrationError:
            continue  # frame names that are none: said by check_links
    return known


def check_frames(seen: Observations, config: Config) -> list[Finding]:
    """Links that contradict each other, and sensors without a place."""
    links = list(seen.links)
    findings = _check_numbers(links) + _check_parents(links) + _check_static(links)
    for topic, detail in seen.bad_links.items():
        findings.append(error("bad-tf", topic, detail, "Mend who publishes it."))
    return findings + _check_cycles(links) + _check_chains(seen, config)


def _check_numbers(links: Sequence[Link]) -> list[Finding]:
    findings = []
    for link in links:
        name = f"{link.parent} -> {link.child}"
        if not link.parent or not link.child or link.parent == link.child:
            remedy = "Name parent and child, and name them differently."
            findings.append(error("bad-frame-name", name, "frame names are empty or equal", remedy))
        elif is_odd(link):
            norm = math.hypot(*link.xyzw)
            seen = f"quaternion x y z w = {_numbers(link.xyzw)} of norm {norm:.4g}"
            if math.isfinite(norm):
                remedy = "Give a unit quaternion (no rotation is 0 0 0 1); the link is ignored."
            else:
                remedy = "Give finite numbers; the link is ignored."
            findings.append(error("bad-quaternion", name, seen, remedy))
    return _once(findings)


def _once(findings: list[Finding]) -> list[Finding]:
    """The first of each kind and subject."""
    return list({(f.code, f.subject): f for f in reversed(findings)}.values())[::-1]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _check_parents(links: Sequence[Link]) -> list[Finding]:
    parents: dict[str, dict[str, None]] = defaultdict(dict)
    for link in links:
        if link.child and link.parent:
            parents[link.child][link.parent] = None
    remedy = "A frame has one parent: stop one of the broadcasters."
    return [
        error("two-parents", child, f"has the parents {' and '.join(found)}", remedy)
        for child, found in parents.items()
        if len(found) > 1
    ]


def _check_static(links: Sequence[Link]) -> list[Finding]:
    """One static link told with different numbers; a link that is static and moves."""
    told: dict[tuple[str, str], list[Link]] = defaultdict(list)
    for link in links:
        told[link.parent, link.child].append(link)
    findings = []
    for (parent, child), versions in told.items():
        static = [v for v in versions if v.static and not is_odd(v)]
        name = f"{parent} -> {child}"
        if static and len(static) < len([v for v in versions if not is_odd(v)]):
            what = "told on /tf_static and on /tf"
            remedy = "Publish it on one of them: who listens gets what came last."
            findings.append(error("static-and-moving", name, what, remedy))
        different = [v for v in static if _differ(static[0], v)]
        if different:
            shift_m = math.dist(static[0].translation, different[0].translation)
            what = (
                f"told {len(different) + 1} ways, {shift_m:.3f} m and"
                f" {math.degrees(_angle(static[0], different[0])):.2f} deg apart"
            )
            remedy = "Stop all but one of the calibrations that publish it."
            findings.append(error("static-differs", name, what, remedy))
    return findings


def _differ(a: Link, b: Link) -> bool:
    return math.dist(a.translation, b.translation) > SAME_M or _angle(a, b) > SAME_RAD


def _angle(a: Link, b: Link) -> float:
    """The rotation between two links, rad."""
    cosine = abs(sum(p * q for p, q in zip(a.xyzw, b.xyzw, strict=True)))
    return 2.0 * math.acos(min(cosine, 1.0))


def _check_cycles(links: Sequence[Link]) -> list[Finding]:
    parent = {link.child: link.parent for link in links}
    for start in parent:
        walked = [start]
        while walked[-1] in parent and len(walked) <= len(parent) + 1:
            walked.append(parent[walked[-1]])
            if walked[-1] == start:
                seen = f"leads back to itself: {' <- '.join(walked)}"
                return [error("tf-cycle", start, seen, "Frames are a tree: break the circle.")]
    return []


# ---------------------------------------------------------------- the sensors' places


def _check_chains(seen: Observations, config: Config) -> list[Finding]:
    known = calibration(seen, config)
    base = config.frames.base.lstrip("/")
    findings: list[Finding] = []
    astray: dict[str, list[Stream]] = defaultdict(list)
    for stream in seen.streams.values():
        if stream.role in ("camera_info", "motion", "wheels") or not stream.messages:
            continue
        findings += _check_names(stream, config)
        frame = stream.frame
        if frame and known.base_from(frame) is None and frame not in _world(config):
            astray[frame].append(stream)
    if not astray:
        return findings
    frames = _all_frames(seen)
    if frames and base not in frames and base not in known.frames.frames():
        findings.append(_no_base(base, frames, astray, known, seen))
        return findings
    for frame, streams in astray.items():
        findings.append(_no_chain(base, frame, streams, frames))
    return findings


def _world(config: Config) -> set[str]:
    return {config.frames.odom.lstrip("/"), config.frames.map.lstrip("/")}


def _all_frames(seen: Observations) -> set[str]:
    return {f for link in seen.links for f in (link.parent, link.child) if f}


def _check_names(stream: Stream, config: Config) -> list[Finding]:
    findings = []
    topic = stream.topic
    if stream.frames[""]:
        what = f"{stream.frames['']} of {sum(stream.frames.values())} messages name no frame"
        make = error if stream.role in CAMERA_OR_LIDAR else warn
        remedy = "Set frame_id in the driver to the sensor's frame in TF."
        findings.append(make("no-frame", topic, what, remedy))
    if len(stream.frames) > 1:
        listed = ", ".join(f"{f or 'none'} ({n})" for f, n in stream.frames.most_common(4))
        remedy = "Let one sensor publish on one topic, in one frame."
        findings.append(warn("several-frames", topic, f"messages are in {listed}", remedy))
    if stream.role in CAMERA_OR_LIDAR and stream.frame in _world(config):
        what = f"frame_id is {stream.frame}, a frame in which the robot moves"
        remedy = "Give fusion the sensor's own topic, not one that was moved into the world."
        findings.append(error("world-frame", topic, what, remedy))
    return findings


def _no_base(
    base: str,
    frames: set[str],
    astray: dict[str, list[Stream]],
    known: Calibration,
    seen: Observations,
) -> Finding:
    """One remedy for all of them: TF is there, the base is not in it."""
    children = {link.child for link in seen.links}
    root = next((f for f in sorted(frames) if f not in children), sorted(frames)[0])
    anchor = _anchor(astray, known) or root
    near = difflib.get_close_matches(base, sorted(frames), 1, 0.6)
    what = (
        f"no frame {base} in TF, which holds {', '.join(sorted(frames)[:8])}; without a place on"
        f" the robot: {', '.join(sorted(astray))}"
    )
    placed = f"--set 'calibration.extrinsics=[\"{anchor} X Y Z ROLL PITCH YAW\"]'"
    remedy = (
        f"Say where {anchor} sits in {base} (metres, radians; base on the ground, x forward) with"
        f" {placed}, and what TF connects with it follows, or publish {base} -> {root}."
    )
    if near:
        remedy = f"Did you mean --set frames.base={near[0]}? Else: {remedy}"
    return error("no-base-frame", base, what, remedy)


def _anchor(astray: dict[str, list[Stream]], known: Calibration) -> str:
    """The sensor frame that the most other ones hang together with; a LIDAR's before a camera's."""

    def weight(frame: str) -> tuple[int, bool]:
        connected = sum(known.frames.lookup(frame, other) is not None for other in astray)
        return connected, any(s.role == "lidar" for s in astray[frame])

    return max(sorted(astray), key=weight)


def _no_chain(base: str, frame: str, streams: Sequence[Stream], frames: set[str]) -> Finding:
    topics = ", ".join(s.topic for s in streams)
    roles = {s.role for s in streams}
    near = difflib.get_close_matches(frame, sorted(frames), 1, 0.7)
    if not frames:
        what = f"no transform came at all, {topics} is in {frame}"
    elif frame in frames:
        what = f"{frame} ({topics}) is in TF, and nothing connects it with {base}"
    else:
        what = f"{frame} ({topics}) is not in TF"
    mean = f"Did you mean {near[0]} as frame_id? Else: p" if near and frame not in frames else "P"
    remedy = (
        f"{mean}ublish {base} -> {frame} on /tf_static (static_transform_publisher), or --set"
        f" 'calibration.extrinsics=[\"{frame} X Y Z ROLL PITCH YAW\"]'."
    )
    if roles & set(CAMERA_OR_LIDAR):
        return error("no-transform", frame, what, remedy)
    if "imu" in roles:
        remedy += " Till then the pose node levels the IMU by gravity, and learns its heading."
        return warn("no-transform", frame, what, remedy)
    return (
        info("no-transform", frame, what, remedy)
        if roles == {"gps"}
        else warn("no-transform", frame, what, remedy)
    )
