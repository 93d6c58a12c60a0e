"""A frame's file: what goes in comes out, compactly, and what is broken is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mm_fusion.datasets.frame import (
    NO_RING,
    Cloud,
    LabelledFrame,
    Objects,
    count_inside,
    read_frame,
    write_frame,
)
from mm_fusion.errors import StageError


def made(points: int = 5000, images: int = 1) -> LabelledFrame:
    rng = np.random.default_rng(4)
    cloud = Cloud(
        rng.uniform(-80, 80, (points, 3)).astype(np.float32),
        rng.random(points).astype(np.float32),
        rng.uniform(0, 0.2, points).astype(np.float32),
        rng.integers(0, 64, points).astype(np.uint8),
    )
    ramp = np.linspace(0, 255, 120).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (90, 120, 3)).copy()
    picture[..., 2] = 40
    objects = Objects(
        rng.normal(size=(3, 9)).astype(np.float32),
        np.array([0, -1, 2]),
        np.array([5, 0, 70_000], np.int32),
        np.array([-1, 3, 9], np.int32),
        np.array([[0.5, np.nan], [1, 0], [0, 0]], np.float32),
        ("van", "", "cyclist"),
        np.array([7, -1, 10**12]),
    )
    return LabelledFrame(
        cloud,
        (picture,) * images,
        rng.normal(size=(images, 3, 4)).astype(np.float32),
        objects,
        rng.integers(0, 4, (23, 30)).astype(np.uint8),
        np.array([[1, 2, 30, 40.5]], np.float32),
        replace(cloud, seconds=cloud.seconds + 0.1),
        {"source": "test", "night": None, "beams": 64},
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    there = made()
    write_frame(tmp_path / "a.npz", there)
    back = read_frame(tmp_path / "a.npz")
    for name in Objects.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back.objects, name), getattr(there.objects, name))
    np.testing.assert_array_equal(back.pixel_from_base, there.pixel_from_base)
    np.testing.assert_array_equal(back.classes, there.classes)
    np.testing.assert_array_equal(back.ignore_px, there.ignore_px)
    assert back.conditions == there.conditions
    # points come back in the order of rings and times, rounded to 5 mm, 1/255 and 10 us
    for before, after in ((there.cloud, back.cloud), (there.previous, back.previous)):
        assert before is not None
        assert after is not None
        order = np.lexsort((-before.seconds, before.ring))
        np.testing.assert_array_equal(after.ring, before.ring[order])
        np.testing.assert_allclose(after.xyz, before.xyz[order], atol=0.00251)
        np.testing.assert_allclose(after.intensity, before.intensity[order], atol=0.00197)
        np.testing.assert_allclose(after.seconds, before.seconds[order], atol=0.0000051)
    assert np.abs(back.images[0].astype(int) - there.images[0]).mean() < 2.0
    assert back.images[0][0, 100, 0] > 200  # red, green and blue keep their places
    assert back.images[0][0, 100, 2] < 60


@pytest.mark.parametrize("images", [0, 2])
def test_none_or_several_pictures(tmp_path: Path, images: int) -> None:
    write_frame(tmp_path / "a.npz", made(images=images))
    back = read_frame(tmp_path / "a.npz")
    assert len(back.images) == len(back.pixel_from_base) == images


def test_no_points_and_no_objects(tmp_path: Path) -> None:
    there = made(images=0)
    nobody = Objects(
        np.zeros((0, 9), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int32),
        np.zeros(0, np.int32), np.zeros((0, 2), np.float32), (), np.zeros(0, np.int64),
    )  # fmt: skip
    bare = replace(there, cloud=Cloud.empty(), objects=nobody, previous=None)
    write_frame(tmp_path / "a.npz", bare)
    back = read_frame(tmp_path / "a.npz")
    assert back.cloud.xyz.shape == (0, 3)
    assert back.objects.boxes.shape == (0, 9)
    assert back.previous is None


def test_points_that_cannot_be_stored_are_left_out(tmp_path: Path) -> None:
    there = made(images=0)
    far = there.cloud.xyz.copy()
    far[0, 0], far[1, 2], far[2, 1] = 170.0, np.nan, -np.inf
    write_frame(tmp_path / "a.npz", replace(there, cloud=replace(there.cloud, xyz=far)))
    back = read_frame(tmp_path / "a.npz")
    assert len(back.cloud.xyz) == len(far) - 3
    assert np.abs(back.cloud.xyz).max() < 81.0


def test_a_sweep_along_surfaces_takes_few_bytes(tmp_path: Path) -> None:
    azimuth, ring = np.meshgrid(np.linspace(-np.pi, np.pi, 1800), np.arange(32))
    reach = 8.0 + ring * 0.5 + 0.01 * np.random.default_rng(0).normal(size=azimuth.shape)
    xyz = np.stack([reach * np.cos(azimuth), reach * np.sin(azimuth), 0.1 * ring], -1)
    count = azimuth.size
    cloud = Cloud(
        xyz.reshape(-1, 3).astype(np.float32),
        np.full(count, 0.2, np.float32),
        np.linspace(0.1, 0, 1800, dtype=np.float32)[None].repeat(32, 0).ravel(),
        ring.ravel().astype(np.uint8),
    )
    write_frame(tmp_path / "a.npz", replace(made(images=0), cloud=cloud, previous=None))
    assert (tmp_path / "a.npz").stat().st_size < 5 * count


def test_what_is_no_frame_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_frame(path, made())
    whole = path.read_bytes()
    for broken in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(StageError, match=r"a\.npz: not a frame"):
            read_frame(path)
    np.savez(path, format=np.array("mm_fusion frame 0"))
    with pytest.raises(StageError, match="frame 0"):
        read_frame(path)
    arrays = {}
    path.write_bytes(whole)
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    for name, value in (("labels", arrays["labels"][:2]), ("cloud", arrays["cloud"][:50])):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(StageError, match=r"a\.npz"):
            read_frame(path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    there = made()
    with pytest.raises(TypeError):
        write_frame(tmp_path / "a.npz", replace(there, conditions={"x": object()}))
    assert not list(tmp_path.glob("*.npz"))


def test_points_are_counted_in_turned_boxes() -> None:
    box = np.array([[10, 5, 1, 4, 2, 2, np.pi / 6, 0, 0]], np.float32)
    along = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6), 0])
    across = np.array([-along[1], along[0], 0])
    middle = np.array([10.0, 5.0, 1.0])
    inside = [middle + 1.9 * along, middle - 0.95 * across, middle + np.array([0, 0, 0.99])]
    outside = [middle + 2.1 * along, middle + 1.05 * across, middle - np.array([0, 0, 1.01])]
    points = np.array(inside + outside, np.float32)
    assert count_inside(points, box).tolist() == [3]
    assert NO_RING == 255
