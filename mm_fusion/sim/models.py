"""What a labelled object is made of: its class, its box and its mesh in each phase of a stride."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mm_fusion.sim.mesh import Mesh

CAR, PEDESTRIAN, CYCLIST = 0, 1, 2
CLASS_NAMES = ("car", "pedestrian", "cyclist")
PHASES = 8


@dataclass(frozen=True, slots=True, eq=False)
class ObjectModel:
    """One kind of object. The origin of its meshes is the centre of the box's bottom face.

    ``size`` is (length, width, height) in metres; ``meshes`` holds one mesh per phase of a
    periodic motion, a single one for rigid objects; ``stride_m`` is the way of one period.
    ``kind`` says more than the class, such as "van".
    """

    label: int
    size: tuple[float, float, float]
    meshes: tuple[Mesh, ...]
    stride_m: float = 1.0
    kind: str = ""

    def mesh_at(self, travelled_m: float) -> Mesh:
        """The mesh after ``travelled_m`` of way."""
        count = len(self.meshes)
        return self.meshes[int(travelled_m / self.stride_m * count) % count]


def bounding_size(meshes: tuple[Mesh, ...]) -> tuple[float, float, float]:
    """Size (length, width, height) of the box about the z axis that holds every phase."""
    low = np.min([m.vertices.min(axis=0) for m in meshes], axis=0)
    high = np.max([m.vertices.max(axis=0) for m in meshes], axis=0)
    length, width = 2 * np.maximum(high[:2], -low[:2])
    return float(length), float(width), float(high[2])
