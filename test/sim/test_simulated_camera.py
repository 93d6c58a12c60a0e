"""The camera against OpenCV's own projection, and what hides, moves and shines."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from support.cubes import CUBE

from mm_fusion.geometry import box_corners
from mm_fusion.sim.camera import CameraSpec, optical_mount, pixel_rays, render
from mm_fusion.sim.lens import Lens
from mm_fusion.sim.shading import Light
from mm_fusion.sim.weather import Weather

LENS = np.array([-0.14, 0.035, 0.0006, -0.0004, 0.0])
SPEC = CameraSpec(
    320,
    200,
    np.array([[176.0, 0, 161.0], [0, 176.0, 98.0], [0, 0, 1]]),
    optical_mount((1.0, 0.1, 1.5), (0.01, 0.02, -0.03)),
    d=LENS,
    noise=0.0,
)
LIGHT = Light.clear(np.random.default_rng(0))


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def projected(spec: CameraSpec, points_base: np.ndarray) -> np.ndarray:
    """Pixels of base-frame points by OpenCV."""
    optical = spec.base_from_camera.inverse().apply(points_base)
    zero = np.zeros(3)
    return cv2.projectPoints(optical, zero, zero, spec.k, spec.d)[0].reshape(-1, 2)


def test_pixel_rays_are_what_opencv_projects_back() -> None:
    rays = pixel_rays(SPEC).astype(float)
    zero = np.zeros(3)
    pixels = cv2.projectPoints(7.0 * rays, zero, zero, SPEC.k, SPEC.d)[0].reshape(-1, 2)
    u, v = np.meshgrid(np.arange(320), np.arange(200))
    np.testing.assert_allclose(pixels, np.stack([u.ravel(), v.ravel()], 1), atol=5e-3)


def test_the_lens_bends() -> None:
    straight = dataclasses.replace(SPEC, d=np.zeros(5))
    moved = np.abs(pixel_rays(SPEC) - pixel_rays(straight)).max()
    assert moved > 0.02


@pytest.mark.parametrize(("x", "y", "yaw"), [(9.0, 2.0, 0.4), (14.0, -4.0, 1.3), (20.0, 0.5, -2.0)])
def test_a_projected_box_just_encloses_its_pixels(
    bare_world: Any, x: float, y: float, yaw: float
) -> None:
    world = bare_world(cubes=[(x, y, yaw)])
    picture = render(world, SPEC, 1.0, LIGHT, rng())
    v, u = np.nonzero(picture.object_id == 0)
    corners = projected(SPEC, box_corners((x, y, CUBE[2] / 2), CUBE, yaw))
    hull = cv2.convexHull(corners.astype(np.float32))
    inside = [
        cv2.pointPolygonTest(hull, (float(a), float(b)), True) for a, b in zip(u, v, strict=True)
    ]
    assert min(inside) > -0.75
    area = cv2.contourArea(hull)
    assert len(u) == pytest.approx(area, rel=0.06)


def test_what_stands_behind_a_wall_has_no_pixels(bare_world: Any) -> None:
    wall = ((8.0, 0.0, 2.5), (0.2, 12.0, 5.0))
    hidden = bare_world(cubes=[(15.0, 0.0, 0.0)], walls=[wall])
    half = bare_world(cubes=[(15.0, 0.0, 0.0)], walls=[((8.0, 6.0, 2.5), (0.2, 12.0, 5.0))])
    free = bare_world(cubes=[(15.0, 0.0, 0.0)])
    counts = [
        (render(w, SPEC, 1.0, LIGHT, rng()).object_id == 0).sum() for w in (hidden, half, free)
    ]
    assert counts[0] == 0
    assert 0.2 * counts[2] < counts[1] < 0.8 * counts[2]


def test_movers_are_seen_where_they_are_at_the_exposure(bare_world: Any) -> None:
    world = bare_world(movers=[(15.0, -6.0, 0.0, 8.0)])
    for t in (0.5, 1.0):
        v, u = np.nonzero(render(world, SPEC, t, LIGHT, rng()).object_id == 0)
        middle = projected(SPEC, np.array([[15.0 - CUBE[1] / 2, -6.0 + 8.0 * t, CUBE[2] / 2]]))[0]
        assert u.mean() == pytest.approx(middle[0], abs=2.5)
        assert v.mean() == pytest.approx(middle[1], abs=2.5)


def test_sun_casts_shadows_on_the_far_side(bare_world: Any) -> None:
    world = bare_world(cubes=[(12.0, 0.0, np.pi / 2)])
    low = np.array([0.0, 0.8, 0.6], np.float32)  # the sun stands on the left
    light = dataclasses.replace(LIGHT, to_sun=low)
    picture = render(world, dataclasses.replace(SPEC, d=np.zeros(5)), 1.0, light, rng())

    def brightness(y: float) -> float:
        u, v = projected(dataclasses.replace(SPEC, d=np.zeros(5)), np.array([[12.0, y, 0.0]]))[0]
        return float(picture.image[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2].mean())

    left, right = CUBE[0] / 2 + 1.0, -CUBE[0] / 2 - 1.0
    assert brightness(right) < 0.75 * brightness(left)


def test_the_same_seed_gives_the_same_picture(town_world: Any) -> None:
    pictures = [render(town_world, SPEC, 4.0, LIGHT, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(pictures[0].image, pictures[1].image)
    assert 20 < pictures[0].image.mean() < 235  # exposed, not black, not burnt out
    assert pictures[0].image.std() > 20


def test_noise_is_added(bare_world: Any) -> None:
    world = bare_world()
    clean = render(world, SPEC, 1.0, LIGHT, rng()).image.astype(float)
    noisy = render(world, dataclasses.replace(SPEC, noise=0.03), 1.0, LIGHT, rng()).image
    difference = noisy - clean
    assert 3.0 < difference.std() < 15.0


def test_by_night_it_is_dark_but_under_lamps_and_before_headlights(bare_world: Any) -> None:
    world = bare_world(cubes=[(14.0, 2.0, 0.0)])
    night = Light.dark(np.random.default_rng(2))
    spec = dataclasses.replace(SPEC, d=np.zeros(5))

    def brightness(lamps: list[np.ndarray], at: tuple[float, float]) -> float:
        world.town.lamps = lamps
        picture = render(world, spec, 1.0, night, rng())
        u, v = projected(spec, np.array([[*at, 0.0]]))[0]
        return float(picture.image[int(v) - 2 : int(v) + 3, int(u) - 2 : int(u) + 3].mean())

    beside = (14.0, -5.0)
    lamp = np.array([14.0, -5.0, 6.0])
    assert brightness([lamp], beside) > 2.0 * brightness([], beside)
    # the headlights reach the road ahead, not what is beside it
    assert brightness([], (8.0, 0.0)) > 2.0 * brightness([], (8.0, 6.0))


def test_fog_takes_the_far_and_leaves_the_near(bare_world: Any) -> None:
    world = bare_world(cubes=[(8.0, 2.0, 0.0), (60.0, -8.0, 0.0)])
    grey_day = LIGHT.under(Weather("fog", 0.0, 0.0, 50_000.0))
    fog = LIGHT.under(Weather("fog", 0.06, 0.0, 50.0))
    spec = dataclasses.replace(SPEC, d=np.zeros(5))
    contrast = []
    for light in (grey_day, fog):
        picture = render(world, spec, 1.0, light, rng())
        grey = picture.image.astype(float).mean(axis=2)
        contrast.append([grey[picture.object_id == k].std() for k in (0, 1)])
    assert contrast[1][1] < 0.5 * contrast[0][1]
    assert contrast[1][0] > 0.25 * contrast[0][0]


def test_faults_of_the_lens_change_the_picture(bare_world: Any) -> None:
    world = bare_world(cubes=[(9.0, 1.0, 0.3)])
    clean = render(world, SPEC, 1.0, LIGHT, rng()).image.astype(float)
    sharp = np.square(np.diff(clean, axis=1)).sum()
    for fault in ({"motion_px": 5.0}, {"streaks": 80}, {"flakes": 80}, {"drops": 12},
                  {"banding": 0.03}, {"chroma_px": 1.5}):  # fmt: skip
        spec = dataclasses.replace(SPEC, lens=Lens(**fault))
        image = render(world, spec, 1.0, LIGHT, rng()).image.astype(float)
        assert np.abs(image - clean).max() > 10, fault
        if "motion_px" in fault:
            assert np.square(np.diff(image, axis=1)).sum() < 0.6 * sharp
