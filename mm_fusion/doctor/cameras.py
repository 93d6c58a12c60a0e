"""Images and CameraInfo: whether they belong together, and whether a lens is described at all."""

from __future__ import annotations

from mm_fusion.doctor.findings import Finding, error, warn
from mm_fusion.doctor.observations import Observations, Stream
from mm_fusion.samples import CameraModel

MAX_DISTORTION = 50.0


def check_cameras(seen: Observations) -> list[Finding]:
    """Every camera with its CameraInfo."""
    findings: list[Finding] = []
    for camera in seen.of_role("camera"):
        info = seen.stream("camera_info", camera.slot)
        if len(camera.image_sizes) > 1:
            listed = ", ".join(f"{w}x{h} {e}" for w, h, e in list(camera.image_sizes)[:4])
            remedy = "Let one camera with one setting publish on one topic."
            findings.append(warn("image-size", camera.topic, f"images come as {listed}", remedy))
        if info is not None and info.models:
            findings += _check_model(camera, info, info.models[-1])
            if len(info.models) > 1:
                what = f"{len(info.models)} different calibrations came"
                remedy = "Let one node publish the calibration of one camera."
                findings.append(warn("camera-info-changes", info.topic, what, remedy))
    return findings


def describe(stream: Stream) -> str:
    """Size and encoding, for the table."""
    if not stream.image_sizes:
        return ""
    width, height, encoding = stream.image_sizes.most_common(1)[0][0]
    return f"{width}x{height} {encoding}"


def _check_model(camera: Stream, info: Stream, model: CameraModel) -> list[Finding]:
    findings = []
    topic = info.topic
    sizes = [(w, h) for w, h, _ in camera.image_sizes]
    if sizes and (model.width, model.height) not in sizes:
        width, height = sizes[0]
        what = f"is for {model.width}x{model.height} images, {camera.topic} brings {width}x{height}"
        remedy = "Calibrate at the size that is published, or fill in binning and roi."
        findings.append(error("camera-info-size", topic, what, remedy))
    if camera.frame and model.frame_id and model.frame_id != camera.frame:
        what = f"is in {model.frame_id}, the images are in {camera.frame}"
        remedy = "Give both the frame_id of the camera's optical frame (REP-103)."
        findings.append(warn("camera-info-frame", topic, what, remedy))
    u, v = float(model.k[0, 2]), float(model.k[1, 2])
    if not (0.0 < u < model.width and 0.0 < v < model.height):
        what = f"k puts the principal point at {u:.0f}, {v:.0f} of {model.width}x{model.height}"
        remedy = "Check the calibration: it lies near the middle of the image."
        findings.append(warn("camera-info-k", topic, what, remedy))
    ratio = float(model.k[0, 0] / model.k[1, 1])
    if not 0.5 < ratio < 2.0:
        what = f"k has focal lengths {model.k[0, 0]:.1f} and {model.k[1, 1]:.1f} px"
        findings.append(warn("camera-info-k", topic, what, "Check the calibration."))
    if len(model.d) and abs(model.d).max() > MAX_DISTORTION:
        what = f"{model.distortion_model} with coefficients up to {abs(model.d).max():.3g}"
        remedy = "Check the calibration, and that the model is the one of the coefficients."
        findings.append(warn("camera-info-d", topic, what, remedy))
    return findings
