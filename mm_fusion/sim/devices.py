"""Spinning LIDARs as their makers describe them: beam tables, columns a turn, what they answer.

The tables are those of the devices' manuals: HDL-64E in its two blocks of 32 lasers, whose beams
leave well above the sensor's origin; HDL-32E, VLP-16 and VLP-32C of the same maker; Pandar64; and
the even tables of the OS0, OS1 and OS2 family.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One kind of LIDAR.

    ``elevations_deg`` [B] from the lowest beam to the highest, ``heights_m`` [B] how far above the
    sensor's origin each beam leaves it, ``columns`` what a turn of 0.1 s may have.
    """

    name: str
    elevations_deg: F64
    heights_m: F64
    columns: tuple[int, ...]
    max_range_m: tuple[float, float]

    @property
    def beams(self) -> int:
        """How many beams it has."""
        return len(self.elevations_deg)


def _device(name: str, table: F64, columns: tuple[int, ...], reach: tuple[float, float]) -> Device:
    return Device(name, table, np.zeros(len(table)), columns, reach)


_VLP32 = np.concatenate(
    [
        [-25.0, -15.639, -11.31, -8.843, -7.254, -6.148, -5.333, -4.667],
        np.arange(-12, 6) / 3.0,
        [2.333, 3.333, 4.667, 7.0, 10.333, 15.0],
    ]
)
_HDL64 = np.concatenate([np.linspace(-24.33, -8.83, 32), np.linspace(-8.33, 2.0, 32)])
# The lower block's lasers sit beneath the upper one's; within a block they fan out a little.
_HDL64_HEIGHTS = np.concatenate([np.linspace(0.06, 0.11, 32), np.linspace(0.18, 0.22, 32)])
_PANDAR64 = np.concatenate(
    [
        [-25.0, -19.0],
        np.arange(-14.0, -6.5),
        np.linspace(-6.0, 2.0, 49),
        [3.0, 5.0, 8.0, 11.0, 15.0],
    ]
)

DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        _device("vlp16", np.linspace(-15.0, 15.0, 16), (900, 1800), (70, 100)),
        _device("hdl32e", np.linspace(-30.67, 10.67, 32), (1080, 2170), (70, 100)),
        _device("vlp32c", _VLP32, (900, 1800), (90, 120)),
        Device("hdl64e", _HDL64, _HDL64_HEIGHTS, (1800, 2083), (75, 120)),
        _device("pandar64", _PANDAR64, (900, 1800), (100, 120)),
        _device("os1-32", np.linspace(-22.5, 22.5, 32), (1024, 2048), (80, 110)),
        _device("os1-64", np.linspace(-22.5, 22.5, 64), (1024, 2048), (80, 110)),
        _device("os1-128", np.linspace(-22.5, 22.5, 128), (1024,), (80, 110)),
    )
}
_TABLES = {
    "16": "vlp16",
    "32": "hdl32e",
    "32u": "vlp32c",
    "64": "hdl64e",
    "64u": "os1-64",
    "64p": "pandar64",
    "128": "os1-128",
}


def beam_table(name: str) -> F64:
    """Elevations [B] rad of a kind of device, lowest first; ``name`` is that of a device, or a
    number of beams with u (another table of as many) or p."""
    return np.asarray(np.deg2rad(DEVICES[_TABLES.get(name, name)].elevations_deg))
