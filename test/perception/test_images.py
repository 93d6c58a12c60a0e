"""Images in every encoding land in the network's slot where the camera's geometry says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scenes

from mm_fusion.perception.images import ImageError, ImageStager, rectified, scaled_k
from mm_fusion.samples import Reason

COLOUR = np.array([200, 120, 40], np.uint8)  # red, green, blue


def plain(width, height):
    """One colour all over: it must survive every way of resizing."""
    return np.broadcast_to(COLOUR, (height, width, 3)).copy()


def encoded(rgb, encoding):
    """An RGB image as another encoding has it, by index and by hand."""
    if encoding == "mono8":
        return rgb[:, :, 0]
    image = rgb[:, :, ::-1] if encoding.startswith("bgr") else rgb
    if encoding.endswith("a8"):
        image = np.concatenate([image, np.full((*image.shape[:2], 1), 7, np.uint8)], axis=2)
    return image


def staged(frame, model):
    slot = np.zeros((scenes.H, scenes.W, 3), np.uint8)
    stager = ImageStager(slot)
    stager.put(frame, model)
    return slot, stager


@pytest.mark.parametrize("size", [(128, 64), (200, 96), (640, 384), (100, 50), (131, 301)])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_gives_the_same_colours(size, encoding, padding):
    image = encoded(plain(*size), encoding)
    slot, _ = staged(scenes.frame(image, encoding, padding=padding), scenes.camera_model(*size))
    expected = [200, 200, 200] if encoding == "mono8" else COLOUR
    assert (slot == expected).all()


@pytest.mark.parametrize("codec", ["jpeg", "png"])
@pytest.mark.parametrize("size", [(128, 64), (1024, 512), (643, 387)])
def test_compressed_images_decode_to_the_same_colours(codec, size):
    data = cv2.imencode(".jpg" if codec == "jpeg" else ".png", plain(*size)[:, :, ::-1])[1]
    slot, _ = staged(scenes.compressed(data, codec), scenes.camera_model(*size))
    assert np.abs(slot.astype(int) - COLOUR).max() <= 3


def test_a_grey_jpeg_is_an_image_too():
    data = cv2.imencode(".jpg", np.full((64, 128), 90, np.uint8))[1]
    slot, _ = staged(scenes.compressed(data), scenes.camera_model(128, 64))
    assert np.abs(slot.astype(int) - 90).max() <= 2


def gaussian(width, height, at, sigma):
    """A bright spot on black, centred on a pixel position with digits behind the point."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    value = 255.0 * np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2.0 * sigma**2))
    return np.repeat(value[:, :, None], 3, axis=2).round().astype(np.uint8)


def centroid(image):
    weight = image[:, :, 1].astype(float)
    v, u = np.indices(weight.shape)
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


LENSES = [
    ("", []),
    ("plumb_bob", [-0.25, 0.08, 0.001, -0.002, 0.0]),
    ("plumb_bob", [-0.25, 0.08, 0.001, -0.002]),
    ("rational_polynomial", [0.4, -0.2, 0.0005, 0.001, 0.05, 0.75, -0.25, 0.1]),
    ("equidistant", [0.02, -0.01, 0.003, -0.001]),
]


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("size", [(128, 64), (200, 120), (256, 120), (640, 384), (1920, 1080)])
@pytest.mark.parametrize("point", [(-0.35, 0.12, 1.0), (0.3, -0.15, 1.2)])
def test_what_opencv_projects_through_the_lens_is_found_through_the_pinhole(lens, size, point):
    # GIVEN a bright spot where OpenCV's own model of the lens shows a point
    model = scenes.camera_model(*size, *lens)
    at_origin, points = np.zeros(3), np.array([[point]], dtype=float)
    if model.distortion_model == "equidistant":
        shown = cv2.fisheye.projectPoints(points, at_origin, at_origin, model.k, model.d)[0]
    else:
        shown = cv2.projectPoints(points, at_origin, at_origin, model.k, model.d)[0]
    sigma = 1.6 * max(size[0] / scenes.W, size[1] / scenes.H)
    image = gaussian(*size, shown.ravel(), sigma)
    # WHEN the image is staged
    slot, stager = staged(scenes.frame(image), model)
    # THEN it is where the pinhole of the staged image shows the point
    uvw = stager.network_k(model) @ np.array(point)
    assert np.abs(centroid(slot) - uvw[:2] / uvw[2]).max() < 0.15
    # and the picture at its own size shows it where the camera's pinhole does
    # (a small spot: the lens moves the middle of a large one)
    found = centroid(rectified(scenes.frame(gaussian(*size, shown.ravel(), 2.5)), model))
    uvw = model.k @ np.array(point)
    assert np.abs(found - uvw[:2] / uvw[2]).max() < 0.15


def test_a_reduced_jpeg_is_where_the_full_one_is():
    size, at = (1024, 512), (700.3, 140.6)
    image = gaussian(*size, at, 20.0)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
    slot, _ = staged(scenes.compressed(data), scenes.camera_model(*size))
    expected = (np.array(at) + 0.5) / 8.0 - 0.5
    assert np.abs(centroid(slot) - expected).max() < 0.1


def test_the_pixel_centre_convention_by_hand():
    # Half the size: pixels 0 and 1 become pixel 0, whose centre was at 0.5.
    k = scaled_k(np.array([[100.0, 0, 0.5], [0, 100.0, 2.5], [0, 0, 1]]), 0.5, 0.5)
    assert k.tolist() == [[50, 0, 0], [0, 50, 1], [0, 0, 1]]


def test_the_tables_follow_a_changed_camera():
    slot = np.zeros((scenes.H, scenes.W, 3), np.uint8)
    stager = ImageStager(slot)
    image = gaussian(640, 384, (400, 200), 12.0)
    found = []
    for d in ([-0.3, 0.1, 0, 0], [0.0, 0, 0, 0], [-0.1, 0, 0, 0]):
        stager.put(scenes.frame(image), scenes.camera_model(640, 384, "plumb_bob", d))
        found.append(centroid(slot))
    assert np.linalg.norm(found[0] - found[2]) > 0.05
    # no distortion at all is plain resizing
    np.testing.assert_allclose(found[1], (np.array([400.5, 200.5]) / [5, 6]) - 0.5, atol=0.05)


def refusal(frame, model):
    with pytest.raises(ImageError) as caught:
        staged(frame, model)
    return caught.value.reason, caught.value.detail


JPEG = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (64, 128, 3)))[1].tobytes()


@pytest.mark.parametrize(
    ("frame", "reason", "detail"),
    [
        (scenes.compressed(JPEG[: len(JPEG) // 2]), Reason.UNDECODABLE_IMAGE, "cut off"),
        (scenes.compressed(b"\xff\xd8\xff nothing \xff\xd9"), Reason.UNDECODABLE_IMAGE, "jpeg"),
        (scenes.compressed(b"\x89PNG\r\n\x1a\n0000", "png"), Reason.UNDECODABLE_IMAGE, "png"),
        (scenes.frame(plain(100, 64)), Reason.SIZE_MISMATCH, "100 x 64, CameraInfo of 128 x 64"),
        (scenes.frame(plain(128, 64), "yuv422"), Reason.UNKNOWN_ENCODING, "'yuv422'"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_reason(frame, reason, detail):
    found = refusal(frame, scenes.camera_model(128, 64))
    assert found[0] is reason
    assert detail in found[1]


def test_a_jpeg_of_another_size_than_its_camera_is_refused():
    reason, detail = refusal(scenes.compressed(JPEG), scenes.camera_model(256, 128))
    assert reason is Reason.SIZE_MISMATCH
    assert "256 x 128" in detail


def test_an_unknown_lens_is_refused():
    reason, detail = refusal(
        scenes.frame(plain(128, 64)), scenes.camera_model(128, 64, "omni", [0.1])
    )
    assert reason is Reason.NO_INTRINSICS
    assert "'omni'" in detail
