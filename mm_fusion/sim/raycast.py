"""Ray casting on triangle meshes, by Open3D's Embree scene. The only import of Open3D."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def _load_open3d() -> Any:
    """Import Open3D, loading a packaged libusb first where the system has none."""
    if ctypes.util.find_library("usb-1.0") is None:
        with contextlib.suppress(ImportError):
            import libusb_package

            path = libusb_package.get_library_path()
            if path is not None:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    import open3d

    return open3d


_o3d = _load_open3d()


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What rays met: ``range_m`` f32 [N] (inf: nothing), ``triangle`` i64 [N] (-1: nothing) and
    ``normal`` f32 [N,3], unit length, turned towards the ray's origin."""

    range_m: F32
    triangle: I64
    normal: F32


class RayScene:
    """One set of triangles to cast rays at: ``vertices`` [V,3] m and ``triangles`` [T,3]."""

    def __init__(
        self, vertices: npt.NDArray[np.floating], triangles: npt.NDArray[np.integer], threads: int
    ) -> None:
        self._threads = threads
        self._scene = _o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            _o3d.core.Tensor(np.ascontiguousarray(vertices, dtype=np.float32)),
            _o3d.core.Tensor(np.ascontiguousarray(triangles, dtype=np.uint32)),
        )

    def cast(self, rays: F32) -> Hits:
        """First hits of ``packed`` rays [N,6]."""
        answer = self._scene.cast_rays(_o3d.core.Tensor(rays), nthreads=self._threads)
        # unsigned and all ones where nothing was met
        triangle = answer["primitive_ids"].numpy().view(np.int32).astype(np.int64)
        normal = answer["primitive_normals"].numpy()
        away = np.where(dots(normal, rays[:, 3:]) > 0.0, np.float32(-1.0), np.float32(1.0))
        for k in range(3):
            normal[:, k] *= away
        return Hits(answer["t_hit"].numpy(), triangle, normal)

    def occluded(self, rays: F32, far_m: float) -> npt.NDArray[np.bool_]:
        """Whether anything lies within ``far_m`` along each of the ``packed`` rays [N,6]."""
        answer = self._scene.test_occlusions(
            _o3d.core.Tensor(rays), tnear=0.0, tfar=far_m, nthreads=self._threads
        )
        return np.asarray(answer.numpy())


def dots(a: F32, b: F32) -> F32:
    """Products [N] of vectors [N,3] and [N,3], at a third of einsum's time."""
    out = a[:, 0] * b[:, 0]
    out += a[:, 1] * b[:, 1]
    out += a[:, 2] * b[:, 2]
    return out


def packed(origins: F32, directions: F32) -> F32:
    """Rays [N,6] from ``origins`` [N,3] or [3] along unit ``directions`` [N,3]."""
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3] = origins
    rays[:, 3:] = directions
    return rays
