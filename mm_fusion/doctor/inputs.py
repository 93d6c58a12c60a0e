"""Which topics serve as the configured inputs, and what is said where one does not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from mm_fusion.config import WHEEL_TYPES, Config, TopicsConfig
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.observations import Input, TopicSeen, Wanted
from mm_fusion.evaluation import topics as known
from mm_fusion.evaluation.bags import Topic

SENSORS = ("camera", "lidar", "gps", "imu", "wheels")
# What is lost where a topic that nobody insisted on is not there.
LOSSES = {
    "camera": "fusion sees with the LIDAR alone",
    "camera_info": "its camera cannot be used",
    "lidar": "fusion sees with the cameras alone",
    "gps": "there is no pose in the map frame",
    "imu": "the pose rests on the wheels alone",
    "wheels": "speed is known from GPS and IMU alone",
    "motion": "points are not deskewed and tracks stay in the base frame",
}


def wanted_inputs(config: Config, live: bool) -> list[Wanted]:
    """Every input of the configuration; live also the fusion node's ego motion."""
    t, default = config.topics, TopicsConfig()
    images: tuple[str, ...] = (known.COMPRESSED_IMAGE, known.IMAGE)
    images = images if t.camera_compressed else images[::-1]
    # A node takes what it is told; a replay takes whichever of the two the bag has.
    images = images[:1] if live else images
    wheels = (t.wheels_type, *(w for w in WHEEL_TYPES if w != t.wheels_type and not live))
    found = []
    for role, names, usual, types in (
        ("camera", t.camera_names(), default.cameras, images),
        ("lidar", t.lidar_names(), default.lidars, (known.POINT_CLOUD,)),
        ("gps", (t.gps,), (default.gps,), (known.NAV_SAT_FIX,)),
        ("imu", (t.imu,), (default.imu,), (known.IMU,)),
        ("wheels", (t.wheels,), (default.wheels,), wheels),
        ("motion", (t.motion,) if live else (), (default.motion,), (known.ODOMETRY,)),
    ):
        many = role in ("camera", "lidar")
        for slot, name in enumerate(names):
            option = f"topics.{role}s[{slot}]" if many else f"topics.{role}"
            found.append(Wanted(role, slot, option, full(name), types, names != usual))
    chosen = t.camera_infos != ("",)
    infos = config.camera_info_topics() if t.camera_names() else ()
    for slot, name in enumerate(infos):
        option = f"topics.camera_infos[{slot}]"
        chosen_here = chosen and bool(t.camera_infos[slot])
        found.append(
            Wanted("camera_info", slot, option, full(name), (known.CAMERA_INFO,), chosen_here)
        )
    return found


def full(name: str) -> str:
    """A topic's name from the root."""
    return "/" + name.lstrip("/")


def assign(available: Sequence[TopicSeen], wanted: Sequence[Wanted]) -> tuple[Input, ...]:
    """The topic that serves as each input: by its name, else as the replay of a bag would take it.

    A CameraInfo belongs to its camera: where the camera was found under another name, the one
    beside that is taken.
    """
    cameras: dict[int, TopicSeen] = {}
    out = []
    for want in wanted:
        own = cameras.get(want.slot) if want.role == "camera_info" else None
        given = _serve(available, want, own)
        if want.role == "camera" and given.topic is not None:
            cameras[want.slot] = given.topic
        out.append(given)
    return tuple(out)


def _serve(available: Sequence[TopicSeen], want: Wanted, camera: TopicSeen | None) -> Input:
    named = next((t for t in available if t.name == want.name and t.count != 0), None)
    if named is not None and set(named.msgtypes) & set(want.types):
        return Input(want, named, wrong_type=tuple(set(named.msgtypes) - set(want.types)))
    wrong = named.msgtypes if named is not None else ()
    fitting = [t for t in available if set(t.msgtypes) & set(want.types) and t.count != 0]
    if camera is not None and not want.chosen:
        beside = camera.name.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        ours = next((t for t in fitting if t.name == beside), None)
        if ours is not None:
            return Input(want, ours, by_type=ours.name != want.name)
    if want.role == "motion":
        return Input(want, None, wrong_type=wrong)  # no other Odometry is the ego motion
    by_name = {t.name: t for t in fitting}
    listed = [Topic(t.name, next(k for k in want.types if k in t.msgtypes), 1) for t in fitting]
    for group in known.candidates(listed, want.name, want.types):
        if len(group) == 1 and not want.chosen:
            return Input(want, by_name[group[0].name], True, (), wrong)
        if group:
            return Input(want, None, False, tuple(t.name for t in group), wrong)
    return Input(want, None, False, (), wrong)


# ------------------------------------------------------------------------------- findings


def check_inputs(
    inputs: Sequence[Input], available: Sequence[TopicSeen], live: bool
) -> list[Finding]:
    """Missing topics, wrong types, names that only nearly fit."""
    findings: list[Finding] = []
    if not any(i.topic for i in inputs if i.wanted.role in SENSORS):
        findings.append(_nothing(available, live))
    blind = not any(i.topic or i.candidates or i.wrong_type for i in inputs if _sees(i.wanted))
    if blind:
        loss = "Nothing will be detected; the pose road runs all the same."
        what = f"no camera and no LIDAR {'publishes' if live else 'is in the bag'}"
        findings.append((warn if live else info)("no-camera-no-lidar", "inputs", what, loss))
    for given in inputs:
        if blind and _sees(given.wanted) and not given.wanted.chosen:
            continue  # said once for all of them
        findings += _check_input(given, available, live, _has_camera(inputs, given.wanted))
    return findings


def _sees(want: Wanted) -> bool:
    return want.role in ("camera", "lidar")


def _has_camera(inputs: Sequence[Input], want: Wanted) -> bool:
    """Whether a CameraInfo that is missing would have a camera to belong to."""
    slots = {i.wanted.slot for i in inputs if i.wanted.role == "camera" and i.topic}
    return want.role != "camera_info" or want.slot in slots


def _nothing(available: Sequence[TopicSeen], live: bool) -> Finding:
    types = sorted({k for t in available for k in t.msgtypes if "/msg/" in k})
    seen = f"no input topic among {len(available)} topics"
    if types:
        seen += f" of types {', '.join(types[:8])}"
    remedy = (
        "Start the drivers, and see that ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE are the"
        " same for them and here."
        if live
        else "Record the topics of the sensors, or name them with --set topics.<input>=NAME."
    )
    return error("no-inputs", "graph" if live else "bag", seen, remedy)


def _check_input(
    given: Input, available: Sequence[TopicSeen], live: bool, needed: bool
) -> list[Finding]:
    want = given.wanted
    if given.wrong_type:
        return [_wrong_type(given)]
    if given.topic is None:
        return [_missing(given, available, live)] if needed else []
    if not given.by_type:
        return []
    option = f"--set {setting(want, given.topic.name)}"
    seen = f"configured name {want.name} is not there; the only {want.types[0]} is"
    seen = f"{seen} {given.topic.name}"
    if live and not (want.role == "camera_info" and not want.chosen):
        return [error("topic-name", want.name, seen, f"Name it: {option}.")]
    if want.role == "camera_info":
        return []  # it follows its camera
    return [info("topic-by-type", given.topic.name, f"taken as {want.parameter} by its type")]


def setting(want: Wanted, name: str) -> str:
    """``topics.lidars=[NAME]``: how a parameter names a topic."""
    option = want.parameter.partition("[")[0]
    return f"'{option}=[{name}]'" if "[" in want.parameter else f"{option}={name}"


def _wrong_type(given: Input) -> Finding:
    want = given.wanted
    wrong = ", ".join(given.wrong_type)
    remedy = f"Publish {want.types[0]} there, or name another topic with {want.parameter}."
    if want.role == "camera":
        value = "true" if known.COMPRESSED_IMAGE in given.wrong_type else "false"
        if {known.IMAGE, known.COMPRESSED_IMAGE} & set(given.wrong_type):
            remedy = f"Set topics.camera_compressed to {value}."
    elif want.role == "wheels" and set(WHEEL_TYPES) & set(given.wrong_type):
        remedy = f"Set topics.wheels_type to {given.wrong_type[0]}."
    seen = f"type {wrong}, wanted {' or '.join(want.types)} ({want.parameter})"
    return error("wrong-type", want.name, seen, remedy)


def _missing(given: Input, available: Sequence[TopicSeen], live: bool) -> Finding:
    want = given.wanted
    place = "nobody publishes it" if live else "not in the bag"
    seen = f"{place} ({want.parameter})"
    if given.candidates:
        seen += f"; topics of that type: {', '.join(given.candidates)}"
        near = difflib.get_close_matches(want.name, given.candidates, 1, 0.5)
        likely = near[0] if near else given.candidates[0]
        hint = "did you mean" if near else "choose one, such as"
        remedy = f"Name the topic: {hint} --set {setting(want, likely)}?"
        return error("missing-topic", want.name, seen, remedy)
    near = difflib.get_close_matches(want.name, [t.name for t in available], 1, 0.8)
    if near:
        seen += f"; a name like it is {near[0]}"
    remedy = f"{'Start its driver' if live else 'Record it'}; without it {LOSSES[want.role]}."
    if want.role == "motion":
        remedy = f"Start pose_node, or name another Odometry; without it {LOSSES[want.role]}."
    if want.chosen or want.role == "camera_info":
        return error("missing-topic", want.name, seen, remedy)
    make = warn if live and want.role != "motion" else info
    return make("missing-topic", want.name, seen, remedy)
