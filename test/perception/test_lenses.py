"""Lenses, binned and cut images: what a camera sees is found where its pinhole shows it.

The lenses are written out here by the formulas that OpenCV's documentation gives (and held against
OpenCV's projectPoints once), so that neither the code nor its maps say what is right.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scenes

from mm_fusion.perception import images
from mm_fusion.perception.images import ImageStager, rectified
from mm_fusion.samples import CameraModel
from mm_fusion.wire import from_message

PLUMB_BOB = (-0.28, 0.09, 0.0008, -0.0011, -0.012)
RATIONAL = (0.42, -0.21, 0.0006, 0.0009, 0.06, 0.78, -0.27, 0.11)
FISHEYE = (0.03, -0.012, 0.004, -0.001)
LENSES = [
    ("plumb_bob", PLUMB_BOB),
    ("rational_polynomial", RATIONAL),
    ("equidistant", FISHEYE),
    ("fisheye", FISHEYE),
    ("equidistant", (0.0, 0.0, 0.0, 0.0)),  # no coefficients is not no lens
    ("equidistant", ()),
]
POINTS = [(-0.42, 0.2, 1.0), (0.5, -0.22, 1.1), (0.02, 0.26, 0.9), (0.45, 0.25, 1.0)]


def through(model: str, d: tuple[float, ...], point: tuple[float, float, float]) -> np.ndarray:
    """Where in the plane at distance 1 a lens shows a point [2]."""
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x * x + y * y
    if model in ("equidistant", "fisheye"):
        k = (*d, 0.0, 0.0, 0.0, 0.0)[:4]
        theta = np.arctan(np.sqrt(r2))
        bent = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
        return np.array([x, y]) * bent / np.sqrt(r2)
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0.0, 0.0, 0.0)[:8]
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return np.array(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ]
    )


@pytest.mark.parametrize(("name", "d"), LENSES)
@pytest.mark.parametrize("point", POINTS)
def test_the_formulas_here_are_opencvs(name, d, point):
    given, still = np.array([[point]]), np.zeros(3)
    if name in ("equidistant", "fisheye"):
        four = np.array((*d, 0.0, 0.0, 0.0, 0.0)[:4])
        found = cv2.fisheye.projectPoints(given, still, still, np.eye(3), four)[0]
    else:
        found = cv2.projectPoints(given, still, still, np.eye(3), np.array(d))[0]
    np.testing.assert_allclose(found.ravel(), through(name, d, point), atol=1e-9)


def info(name, d, k, size, binning=(0, 0), roi=(0, 0, 0, 0)) -> CameraModel:
    """The model that a CameraInfo with these members becomes."""

    class CameraInfo:
        pass

    class Part:
        def __init__(self, **members):
            self.__dict__.update(members)

    message = CameraInfo()
    stamp = Part(sec=1, nanosec=0)
    message.header = Part(stamp=stamp, frame_id="camera")
    message.height, message.width = size[1], size[0]
    message.distortion_model, message.d, message.k = name, np.array(d), np.array(k).ravel()
    message.binning_x, message.binning_y = binning
    message.roi = Part(x_offset=roi[0], y_offset=roi[1], height=roi[3], width=roi[2])
    model = from_message(message, "camera")
    assert isinstance(model, CameraModel), model
    return model


def spot(size, at, sigma):
    """A bright spot on black, at a place with digits behind the point."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    value = 255.0 * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2.0 * sigma**2))
    return np.repeat(value[:, :, None], 3, axis=2).round().astype(np.uint8)


def middle_of(image):
    weight = image[:, :, 1].astype(float)
    v, u = np.indices(weight.shape)
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


def pinhole(k, point):
    uvw = k @ np.array(point)
    return uvw[:2] / uvw[2]


K = [[800.0, 0.0, 650.3], [0.0, 810.0, 355.7], [0.0, 0.0, 1.0]]
FULL = (1280, 720)


@pytest.mark.parametrize(("name", "d"), LENSES)
@pytest.mark.parametrize("point", POINTS[::2])
@pytest.mark.parametrize(
    ("binning", "roi"),
    [
        ((0, 0), (0, 0, 0, 0)),
        ((2, 2), (0, 0, 0, 0)),
        ((1, 1), (200, 100, 960, 560)),
        ((2, 2), (200, 100, 960, 560)),
        ((4, 2), (80, 40, 1120, 640)),
    ],
)
def test_a_point_is_found_through_lens_window_and_bins(name, d, point, binning, roi):
    # GIVEN a sensor of 1280 x 720 behind a lens, of which a window is read out in bins
    on_sensor = np.array(K)[:2, :2] @ through(name, d, point) + np.array(K)[:2, 2]
    x, y, width, height = roi if roi[2] else (0, 0, *FULL)
    assert ((on_sensor > [x + 40, y + 40]) & (on_sensor < [x + width - 40, y + height - 40])).all()
    full = spot(FULL, on_sensor, 9.0)
    bins = max(binning[0], 1), max(binning[1], 1)
    window = full[y : y + height, x : x + width].astype(float)
    binned = window.reshape(height // bins[1], bins[1], width // bins[0], bins[0], 3).mean((1, 3))
    model = info(name, d, K, FULL, binning, roi)
    assert (model.width, model.height) == (width // bins[0], height // bins[1])
    # WHEN the image is staged THEN the pinhole of the staged image shows the point there
    slot = np.zeros((384, 640, 3), np.uint8)
    stager = ImageStager(slot)
    frame = scenes.frame(binned.round().astype(np.uint8))
    stager.put(frame, model)
    wanted = pinhole(stager.network_k(model), point)
    assert ((wanted > 20) & (wanted < [620, 364])).all()
    assert np.abs(middle_of(slot) - wanted).max() < 0.2
    # AND so does the picture at its own size
    found = middle_of(rectified(frame, model))
    assert np.abs(found - pinhole(model.k, point)).max() < 0.3


@pytest.mark.parametrize(("name", "d"), [*LENSES, ("plumb_bob", (2.5, 3.0, 0.01, 0.01, 1.0))])
@pytest.mark.parametrize("size", [(1280, 720), (641, 479), (320, 200)])
def test_bands_make_the_picture_that_is_made_whole(name, d, size, monkeypatch):
    """GIVEN lenses, one of which shows next to nothing, and sizes that divide and do not, WHEN a
    picture is rectified band by band THEN it is to the bit the one rectified as a whole."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    frame = scenes.frame(cv2.GaussianBlur(noise, (0, 0), 2))
    k = np.array([[0.55 * size[0], 0, 0.5 * size[0] + 3], [0, 0.55 * size[0], 0.48 * size[1]]])
    model = info(name, d, np.vstack([k, [0, 0, 1]]), size)
    made = []
    for band in (images.BAND, 10_000):
        monkeypatch.setattr(images, "BAND", band)
        slot = np.full((100, 160, 3), len(made), np.uint8)
        ImageStager(slot).put(frame, model)
        made.append(slot)
    np.testing.assert_array_equal(*made)
