"""Where sensors sit: parameters before TF, and nothing where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from mm_fusion.config import from_values
from mm_fusion.errors import CalibrationError
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration


def calibration(*extrinsics, base="base_link"):
    return Calibration(
        from_values({"calibration.extrinsics": list(extrinsics), "frames.base": base})
    )


def at(x, y=0.0, z=0.0):
    return RigidTransform(np.eye(3), np.array([x, y, z], float))


def place(known, frame):
    found = known.base_from(frame)
    return None if found is None else found.translation.tolist()


def test_tf_chains_lead_to_the_base():
    known = calibration()
    known.set_transform("base_link", "mast", at(1.0))
    known.set_transform("mast", "lidar", at(0.0, 0.0, 2.0))
    assert place(known, "lidar") == [1.0, 0.0, 2.0]
    assert place(known, "/lidar") == [1.0, 0.0, 2.0]


def test_there_is_no_identity_in_place_of_a_missing_link():
    known = calibration()
    known.set_transform("other", "lidar", at(1.0))
    assert place(known, "lidar") is None
    assert place(known, "camera") is None
    assert place(known, "") is None


def test_parameters_win_over_tf():
    known = calibration("lidar 5 0 0 0 0 0")
    known.set_transform("base_link", "lidar", at(1.0))
    assert place(known, "lidar") == [5.0, 0.0, 0.0]


def test_parameters_for_a_frame_inside_a_tree_win_and_leave_the_tree_alone():
    known = calibration("lidar 5 0 0 0 0 0")
    known.set_transform("base_link", "mast", at(1.0))
    known.set_transform("mast", "lidar", at(1.0))
    known.set_transform("mast", "camera", at(0.0, 3.0))
    assert place(known, "lidar") == [5.0, 0.0, 0.0]
    assert place(known, "camera") == [1.0, 3.0, 0.0]


@pytest.mark.parametrize("given", ["lidar", "camera"])
def test_one_given_sensor_places_the_other_that_tf_ties_to_it(given):
    # GIVEN a bag that knows only how LIDAR and camera stand to each other
    known = calibration(f"{given} 0 0 1.7 0 0 0")
    known.set_transform("lidar", "camera", at(0.3))
    # THEN one parameter places both
    expected = {"lidar": [0.3, 0.0, 1.7], "camera": [-0.3, 0.0, 1.7]}
    other = "camera" if given == "lidar" else "lidar"
    assert place(known, given) == [0.0, 0.0, 1.7]
    assert place(known, other) == pytest.approx(expected[given])


def test_the_base_frame_has_its_own_name():
    known = calibration(base="velodyne")
    known.set_transform("velodyne", "camera", at(0.2))
    assert place(known, "camera") == [0.2, 0.0, 0.0]
    assert place(known, "velodyne") == [0.0, 0.0, 0.0]


def test_bad_frame_names_are_refused():
    with pytest.raises(CalibrationError, match="bad frame names"):
        calibration().set_transform("a", "a", at(0.0))


def test_an_unchanged_camera_info_keeps_the_model():
    known = calibration()
    known.set_camera(scenes.camera_model(64, 32))
    first = known.camera("camera")
    known.set_camera(scenes.camera_model(64, 32))
    assert known.camera("camera") is first
    known.set_camera(scenes.camera_model(64, 32, focal=0.8))
    assert known.camera("camera") is not first
    assert known.camera("other") is None
