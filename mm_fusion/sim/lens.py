"""From light to bytes: exposure, lens, motion, rain on the glass, tone curve and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mm_fusion.sim.camera import CameraSpec

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

# The longest exposure lifts the dark no further than this over the brightest day.
_LARGEST_GAIN = 40.0


@dataclass(frozen=True, slots=True)
class Lens:
    """Faults of a picture, all zero for none.

    ``motion_px`` and ``motion_rad`` length and direction of the blur of a moving camera;
    ``streaks`` and ``drops`` how many of the rain's show; ``flakes`` of snow; ``banding`` and
    ``chroma_px`` by how much a row's offset and the colours' places are wrong.
    """

    motion_px: float = 0.0
    motion_rad: float = 0.0
    streaks: int = 0
    drops: int = 0
    flakes: int = 0
    banding: float = 0.0
    chroma_px: float = 0.0


def develop(radiance: F32, spec: CameraSpec, rng: np.random.Generator) -> U8:
    """Radiance [H,W,3] to bytes."""
    median = float(np.median(radiance[radiance.shape[0] // 3 :]))
    exposure = min(spec.key / max(median, 1e-4), _LARGEST_GAIN)
    if spec.blur_px > 0.05:
        radiance = np.asarray(cv2.GaussianBlur(radiance, (0, 0), spec.blur_px), np.float32)
    if spec.lens.motion_px > 0.7:
        radiance = _moved(radiance, spec.lens)
    radiance = _weathered(radiance, spec, median, rng)
    x = np.linspace(-1, 1, spec.width, dtype=np.float32)
    y = np.linspace(-1, 1, spec.height, dtype=np.float32)
    falloff = 1.0 - spec.vignette * 0.5 * (x[None] ** 2 + y[:, None] ** 2)
    linear = radiance * (exposure * falloff)[..., None] * np.asarray(spec.white, np.float32)
    linear = linear / (1.0 + 0.25 * linear)  # highlights roll off
    tone = np.power(np.clip(linear, 0.0, 1.0), 1.0 / spec.gamma)
    if spec.lens.chroma_px > 0.2:
        tone = _shifted(tone, spec.lens.chroma_px)
    grain = rng.standard_normal(tone.shape, dtype=np.float32)
    tone += spec.noise * grain * (0.6 + 0.8 * np.sqrt(np.maximum(tone, 0.0)))
    if spec.lens.banding > 0.0:
        rows = rng.standard_normal((tone.shape[0], 1, 1), dtype=np.float32)
        tone += np.float32(spec.lens.banding) * rows
    return (np.clip(tone, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _moved(radiance: F32, lens: Lens) -> F32:
    """Blurred along a line."""
    size = 2 * int(np.ceil(lens.motion_px / 2)) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    reach = lens.motion_px / 2 * np.array([np.cos(lens.motion_rad), np.sin(lens.motion_rad)])
    ends = [tuple(round(float(v)) for v in middle + s * reach) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(radiance, -1, kernel / kernel.sum()), np.float32)


def _weathered(radiance: F32, spec: CameraSpec, median: float, rng: np.random.Generator) -> F32:
    """Streaks and flakes before the lens, drops on it."""
    lens, (h, w) = spec.lens, radiance.shape[:2]
    if not (lens.streaks or lens.flakes or lens.drops):
        return radiance
    veil = np.zeros((h, w), np.float32)
    for _ in range(lens.streaks):
        x, y, length = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.02, 0.09) * h
        end = (int(x + 0.12 * length), int(y + length))
        cv2.line(veil, (int(x), int(y)), end, float(rng.uniform(0.1, 0.5)), 1)
    for _ in range(lens.flakes):
        at = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        radius = 1 + int(rng.exponential(0.5))
        cv2.circle(veil, at, radius, float(rng.uniform(0.3, 1.0)), -1)
    veil = np.asarray(cv2.GaussianBlur(veil, (0, 0), 0.6), np.float32)[..., None]
    out = radiance * (1 - 0.5 * veil) + veil * np.float32(1.5 * median)
    if lens.drops:
        mask = np.zeros((h, w), np.float32)
        for _ in range(lens.drops):
            at = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
            cv2.circle(mask, at, int(rng.uniform(0.01, 0.035) * h) + 1, 1.0, -1)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.float32)[..., None]
        small = cv2.resize(out[::-1], (w // 8 + 1, h // 8 + 1), interpolation=cv2.INTER_AREA)
        smeared = np.asarray(cv2.resize(small, (w, h)), np.float32)
        out = out * (1 - soft) + smeared * soft
    return np.asarray(out, np.float32)


def _shifted(tone: F32, shift_px: float) -> F32:
    """Red and blue drawn apart, as a cheap lens does towards its rim."""
    h, w = tone.shape[:2]
    out = tone.copy()
    for channel, sign in ((0, 1.0), (2, -1.0)):
        scale = 1.0 + sign * 2.0 * shift_px / w
        matrix = np.array([[scale, 0, (1 - scale) * w / 2], [0, scale, (1 - scale) * h / 2]])
        plane = np.ascontiguousarray(tone[..., channel])
        out[..., channel] = cv2.warpAffine(plane, matrix, (w, h), borderMode=cv2.BORDER_REPLICATE)
    return out
