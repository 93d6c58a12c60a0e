"""What surfaces are made of: how they look to the camera and answer the LIDAR."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


class Texture(enum.IntEnum):
    """How a material's albedo varies over its surface."""

    PLAIN = 0
    NOISE = 1  # params: cell size m, contrast
    FACADE = 2  # params: storey height m, window pitch m, window share of the pitch, base z m
    BRICK = 3  # params: course height m, brick length m, contrast, -
    GLASS = 4  # mirrors the sky
    PAINT = 5  # clear coat over the albedo
    PLANKS = 6  # params: plank width m, contrast


@dataclass(frozen=True, slots=True, eq=False)
class MaterialArrays:
    """The table by column, a row per material.

    ``albedo`` [M,3] linear RGB, ``reflectivity`` [M] at the LIDAR's wavelength 0..1,
    ``lidar_return`` [M] share of rays that come back at all, ``lidar_through`` [M] share that go
    on behind it, ``emission`` [M] how bright it is by itself at night, ``texture`` [M], ``params``
    [M,4].
    """

    albedo: F32
    reflectivity: F32
    lidar_return: F32
    lidar_through: F32
    emission: F32
    texture: npt.NDArray[np.int32]
    params: F32


class MaterialTable:
    """Collects materials while a scene is built; a material is named by its row."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def add(
        self,
        albedo: npt.ArrayLike,
        reflectivity: float,
        texture: Texture = Texture.PLAIN,
        params: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
        lidar_return: float = 1.0,
        lidar_through: float = 0.0,
        emission: float = 0.0,
    ) -> int:
        """Add a material and return its row."""
        rgb = np.clip(np.asarray(albedo, np.float64), 0.0, 1.0)
        lidar = (reflectivity, lidar_return, lidar_through)
        self._rows.append((rgb, *lidar, emission, int(texture), params))
        return len(self._rows) - 1

    def arrays(self) -> MaterialArrays:
        """The table as arrays."""
        columns = zip(*self._rows, strict=True)
        albedo, reflectivity, returned, through, emission, texture, params = columns
        return MaterialArrays(
            np.asarray(albedo, np.float32),
            np.asarray(reflectivity, np.float32),
            np.asarray(returned, np.float32),
            np.asarray(through, np.float32),
            np.asarray(emission, np.float32),
            np.asarray(texture, np.int32),
            np.asarray(params, np.float32),
        )
