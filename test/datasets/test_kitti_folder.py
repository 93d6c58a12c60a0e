"""A KITTI folder made here, and what its frames must be, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.kitti import CALIB, LABELS

from mm_fusion.datasets.kitti import KittiFolder
from mm_fusion.errors import StageError


def test_points_lie_above_the_ground_and_in_the_picture(kitti_folder: Path) -> None:
    frame = KittiFolder(kitti_folder, 10**6).frame(0)
    expected = [[20.27, -2.0, 0.75], [21.9, -2.5, 1.23], [30.0, 1.0, 0.0]]
    np.testing.assert_allclose(frame.cloud.xyz, expected, atol=1e-5)
    np.testing.assert_allclose(frame.cloud.intensity, [0.5, 0.25, 0.9])
    assert (frame.cloud.ring == 255).all()


def test_boxes_by_hand(kitti_folder: Path) -> None:
    o = KittiFolder(kitti_folder, 10**6).frame(0).objects
    # the centre is half the height above the location: camera (2, 0.9, 20)
    np.testing.assert_allclose(o.boxes[0, :6], [20.27, -2.0, 0.75, 4.0, 1.6, 1.5], atol=1e-4)
    assert o.boxes[0, 6] == pytest.approx(0.0, abs=1e-6)  # it drives ahead
    # camera (-4, 0.6, 12); rotation 0.3 from the camera's x axis towards its -z
    np.testing.assert_allclose(o.boxes[1, :3], [12.27, 4.0, -0.68 + 1.73], atol=1e-4)
    assert o.boxes[1, 6] == pytest.approx(-np.pi / 2 - 0.3, abs=1e-5)
    assert np.isnan(o.boxes[:, 7:]).all()
    assert o.num_points[0] == 2
    assert o.num_pixels[0] == 100 * 100


def test_classes_are_mapped_and_the_rest_is_ignored(kitti_folder: Path) -> None:
    frame = KittiFolder(kitti_folder, 10**6).frame(0)
    assert frame.objects.labels.tolist() == [0, 0, 1, 1, 2, 0, -1]
    assert frame.objects.kinds[1] == "van"
    np.testing.assert_allclose(frame.ignore_px, [[503.89, 169.71, 590.61, 190.13]], atol=1e-3)
    np.testing.assert_allclose(frame.objects.visible[0], [1.0, 1.0])
    np.testing.assert_allclose(frame.objects.visible[1], [0.2, 0.15])
    assert np.isnan(frame.objects.visible[3]).all()
    assert frame.classes.size == 0


def test_the_picture_shrinks_with_its_projection(kitti_folder: Path) -> None:
    whole, small = (KittiFolder(kitti_folder, n).frame(0) for n in (10**6, 360 * 1200 // 4))
    assert whole.images[0].shape == (360, 1200, 3)
    assert small.images[0].shape == (180, 600, 3)
    assert (whole.images[0][..., 0] > 190).all()  # red first
    point = np.array([20.27, -2.0, 0.75, 1.0])
    u, v, w = whole.pixel_from_base[0] @ point
    # camera (2, 0.9, 20): (700 * 2 + 600 * 20 + 45) / 20, (700 * 0.9 + 170 * 20) / 20
    np.testing.assert_allclose([u / w, v / w], [672.25, 201.5], atol=1e-2)
    u, v, w = small.pixel_from_base[0] @ point
    np.testing.assert_allclose([u / w, v / w], [672.75 / 2 - 0.5, 202 / 2 - 0.5], atol=1e-2)
    np.testing.assert_allclose(small.ignore_px[0, 0], 504.39 / 2 - 0.5, atol=1e-3)
    assert small.objects.num_pixels[0] == 2500


def test_a_rectifying_rotation_is_used(kitti_folder: Path) -> None:
    c, s = np.cos(0.1), np.sin(0.1)
    turned = CALIB.replace("1 0 0 0 1 0 0 0 1\nTr", f"{c} 0 {s} 0 1 0 {-s} 0 {c}\nTr")
    (kitti_folder / "training" / "calib" / "000007.txt").write_text(turned)
    box = KittiFolder(kitti_folder, 10**6).frame(0).objects.boxes[0]
    # the rectified camera looks 0.1 rad to the right of the unrectified one... undone by hand
    x, z = c * 2.0 - s * 20.0, s * 2.0 + c * 20.0
    np.testing.assert_allclose(box[:2], [z + 0.27, -x], atol=1e-4)
    assert abs(box[6]) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("calib/000007.txt", "P2: 1 2 3\n", r"000007\.txt: needs P2 with 3 x 4"),
        ("calib/000007.txt", CALIB.replace("R0_rect", "R_rect"), "needs R0_rect with 3 x 3"),
        ("calib/000007.txt", CALIB.replace("700 0 600", "x 0 600"), r"000007\.txt: P2"),
        ("label_2/000007.txt", "Car 1 2 3\n", r"000007\.txt:1: not a label"),
        ("label_2/000007.txt", LABELS.replace("Van", "Ufo"), r"000007\.txt:2"),
        ("label_2/000007.txt", LABELS.replace("4.0 2.0", "4.0 two"), r"000007\.txt:1"),
        ("velodyne/000007.bin", "123456", r"000007\.bin: .*rows of 4"),
        ("image_2/000007.png", "no picture", r"000007\.png: not a readable picture"),
    ],
)
def test_what_is_malformed_is_named(kitti_folder: Path, file: str, text: str, message: str) -> None:
    (kitti_folder / "training" / file).write_text(text)
    with pytest.raises(StageError, match=message):
        KittiFolder(kitti_folder, 10**6).frame(0)


def test_what_is_missing_is_named(kitti_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no label_2"):
        KittiFolder(tmp_path / "nothing", 10**6)
    (kitti_folder / "training" / "velodyne" / "000007.bin").unlink()
    with pytest.raises(StageError, match=r"000007\.bin: cannot be read"):
        KittiFolder(kitti_folder, 10**6).frame(0)
