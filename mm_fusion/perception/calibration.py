"""What is known about the sensors: where they sit, and what their lenses do.

Extrinsics from the parameters win over those from TF. Nothing is assumed where nothing is known.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.config import Config
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.samples import CameraModel


class Calibration:
    """Intrinsics by camera and extrinsics by frame; shared by both roads.

    ``frames`` holds every static link, with the parameters' extrinsics already in it.
    """

    def __init__(self, config: Config) -> None:
        self.frames = FrameTree()
        self._base = config.frames.base.lstrip("/")
        self._given = {f.lstrip("/"): t for f, t in config.extrinsics().items()}
        self._cameras: dict[str, CameraModel] = {}
        for frame, base_from_frame in self._given.items():
            self.frames.set(self._base, frame, base_from_frame)

    def set_camera(self, model: CameraModel) -> None:
        """Take the intrinsics of a camera.

        A model equal to the last one keeps the last object, so that what was derived from it
        (the tables that undistort) stays good although CameraInfo comes with every image.
        """
        old = self._cameras.get(model.sensor)
        if old is None or not _same(old, model):
            self._cameras[model.sensor] = model

    def camera(self, sensor: str) -> CameraModel | None:
        """The intrinsics of a camera, by its sensor name."""
        return self._cameras.get(sensor)

    def set_transform(self, parent: str, child: str, parent_from_child: RigidTransform) -> None:
        """Take a link from TF. Raises CalibrationError for bad frame names."""
        if child.lstrip("/") not in self._given:
            self.frames.set(parent, child, parent_from_child)
        elif self.frames.lookup(self._base, parent) is None:
            # The child's place is given; then the link says where its parent is.
            self.frames.set(child, parent, parent_from_child.inverse())

    def base_from(self, frame_id: str) -> RigidTransform | None:
        """``base_from_<frame_id>``, or None where nothing connects the frame with the base."""
        return self.frames.lookup(self._base, frame_id) if frame_id.strip("/") else None


def _same(a: CameraModel, b: CameraModel) -> bool:
    sizes = (a.frame_id, a.height, a.width, a.distortion_model)
    return (
        sizes == (b.frame_id, b.height, b.width, b.distortion_model)
        and np.array_equal(a.k, b.k)
        and np.array_equal(a.d, b.d)
    )
