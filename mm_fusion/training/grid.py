"""The volume the network looks at, and the maps it is cut into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """The volume in front of, beside and behind the vehicle that is looked at (metres, base)."""

    x_min_m: float = -25.6
    x_max_m: float = 51.2
    y_min_m: float = -25.6
    y_max_m: float = 25.6
    z_min_m: float = -1.0
    z_max_m: float = 4.0
    pillar_m: float = 0.4
    height_bins: int = 16
    bev_stride: int = 2  # of the backbone's finest map, in pillars

    @property
    def nx(self) -> int:
        """Pillars along x."""
        return round((self.x_max_m - self.x_min_m) / self.pillar_m)

    @property
    def ny(self) -> int:
        """Pillars along y."""
        return round((self.y_max_m - self.y_min_m) / self.pillar_m)

    @property
    def bev_cell_m(self) -> float:
        """Side of a cell of the backbone's finest map; the output map has the pillars' cells."""
        return self.pillar_m * self.bev_stride

    @property
    def bev_shape(self) -> tuple[int, int]:
        """Cells of the backbone's finest map: [x, y]."""
        return self.nx // self.bev_stride, self.ny // self.bev_stride
