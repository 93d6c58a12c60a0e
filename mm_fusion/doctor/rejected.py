"""Messages of which nothing can be made, by the reason that the roads give for it."""

from __future__ import annotations

from mm_fusion.doctor.findings import Finding, error, warn
from mm_fusion.doctor.observations import Observations, Stream
from mm_fusion.samples import Reason

REMEDIES = {
    Reason.MALFORMED: "The bytes are not what the type says: mend the driver or the recording.",
    Reason.UNKNOWN_ENCODING: "Publish rgb8, bgr8, rgba8, bgra8, mono8, JPEG or PNG.",
    Reason.UNDECODABLE_IMAGE: "The compressed bytes are damaged: mend the driver or the link.",
    Reason.MISSING_FIELD: "Have the driver fill it in, or choose another topic.",
    Reason.NON_FINITE: "Have the driver leave out what it could not measure.",
    Reason.NO_INTRINSICS: (
        "Calibrate the camera (plumb_bob, rational_polynomial or equidistant) and have its driver"
        " load the result."
    ),
    Reason.BAD_COVARIANCE: "Have the driver give finite covariances.",
    Reason.OUT_OF_RANGE: "Have the driver give values that can be.",
}
# What other checks say with more to it.
ELSEWHERE = {Reason.ZERO_STAMP, Reason.EMPTY_CLOUD, Reason.NO_FIX}


def check_rejections(seen: Observations) -> list[Finding]:
    """One finding per topic and reason."""
    skipped = {r.value for r in ELSEWHERE}
    return [
        _finding(stream, reason, count)
        for stream in seen.streams.values()
        for reason, count in sorted(stream.rejections.items())
        if reason not in skipped and not _covariance_says_it(stream, reason)
    ]


def _covariance_says_it(stream: Stream, reason: str) -> bool:
    """An Imu refused for a covariance of -1: said by the check of covariances."""
    return reason == Reason.MISSING_FIELD.value and "covariance" in stream.details[reason]


def _finding(stream: Stream, reason: str, count: int) -> Finding:
    what = f"{count} of {stream.messages} messages cannot be used: {stream.details[reason]}"
    remedy = REMEDIES.get(Reason(reason), "Mend the driver.")
    serious = count > 0.05 * stream.messages or stream.role == "camera_info"
    code = reason.replace("_", "-")
    return (error if serious else warn)(code, stream.topic, what, remedy)
