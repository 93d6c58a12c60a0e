"""The network with more camera slots that the latency bench runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mm_fusion import resources
from mm_fusion.bench.stand_in import NOTE, write_stand_in
from mm_fusion.perception.contract import NetworkInputs
from mm_fusion.perception.network import PACKAGED_MODEL, FusionNetwork

pytest.importorskip("onnx")


def test_stand_in_answers_as_the_packaged_network_does_to_its_first_slot(tmp_path: Path) -> None:
    """GIVEN three slots WHEN all are filled THEN the boxes are those of the first one's image."""
    packaged = FusionNetwork.open(resources.share_path(PACKAGED_MODEL), "cpu", 1)
    stand_in = FusionNetwork.open(write_stand_in(tmp_path, 3), "cpu", 1)
    assert stand_in.contract.camera_slots == 3
    assert stand_in.contract.trained == NOTE
    rng = np.random.default_rng(2)
    one, three = NetworkInputs.of(packaged.contract), NetworkInputs.of(stand_in.contract)
    points = rng.uniform([-20, -20, -0.5, 0, 0], [40, 20, 3, 1, 0.1], (4000, 5))
    three.images[:] = rng.integers(0, 255, three.images.shape)
    three.pixel_from_base[:] = rng.normal(size=three.pixel_from_base.shape)
    one.images[:], one.pixel_from_base[:] = three.images[:1], three.pixel_from_base[:1]
    for inputs in (one, three):
        inputs.points[:4000] = points
        inputs.set_points(4000)
        inputs.has_image[:] = 1.0
    for ours, theirs in zip(stand_in.run(three), packaged.run(one), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
