"""Headings measured from outside (a compass, two antennas), of which many make one look.

The errors of single samples have a part that is new with each, and averages away within a second,
and one that stays. How much is new is seen from sample to sample; what the claim leaves after that
stays, and counts in full with every look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mm_fusion.geometry import wrap_angle_rad
from mm_fusion.samples import NS_PER_S

_LOOK_S = 0.25  # the first look takes as long
_EVERY_S = 1.0
_LEAST = 0.1  # of the claim stays, whatever the samples show
_DIFFERENCES = 10  # before so many, the claim is taken to stay


@dataclass(frozen=True, slots=True)
class Look:
    """Heading of odom in the map, rad, and its standard deviation."""

    yaw_rad: float
    sigma_rad: float


class Compass:
    """Collects the measured headings, each less odom's own heading at its instant."""

    def __init__(self, sigma_rad: float) -> None:
        self._claim = sigma_rad
        self._white = 0.0
        self._differences = 0
        self._last = 0.0
        self._last_ns = self._begin_ns = 0
        self._origin = self._sum = 0.0
        self._count = 0

    def add(self, stamp_ns: int, odom_yaw_rad: float, resting: bool) -> None:
        """A heading of odom in the map. Between looks of a robot that moves a second passes; at
        rest there is no end, for what stays of the error stays."""
        if self._count and self._last_ns:
            change = wrap_angle_rad(odom_yaw_rad - self._last)
            self._differences += 1
            share = 1.0 / min(self._differences, 200)
            self._white += share * (0.5 * change * change - self._white)
        self._last, self._last_ns = odom_yaw_rad, stamp_ns
        if self._count and not resting and self._span_s() > 2.0 * _EVERY_S:
            self.forget()
        if not self._count:
            self._begin_ns, self._origin = stamp_ns, odom_yaw_rad
        self._sum += wrap_angle_rad(odom_yaw_rad - self._origin)
        self._count += 1

    def forget(self) -> None:
        """The next sample begins a new look."""
        self._count, self._sum = 0, 0.0

    def _span_s(self) -> float:
        return (self._last_ns - self._begin_ns) / NS_PER_S

    def first(self, stamp_ns: int) -> Look | None:
        """The first look, for a fix of this instant; None where it has not lasted long enough."""
        near = abs(self._last_ns - stamp_ns) <= _EVERY_S * NS_PER_S
        return self._look() if near and self._count and self._span_s() >= _LOOK_S else None

    def next(self) -> Look | None:
        """The look that a second has filled; the next one begins with it."""
        if not self._count or self._span_s() < _EVERY_S:
            return None
        look = self._look()
        self.forget()
        return look

    def _look(self) -> Look:
        claim2 = self._claim**2
        if self._differences < _DIFFERENCES:
            variance = claim2
        else:
            stays = max(claim2 - self._white, (_LEAST * self._claim) ** 2)
            variance = stays + self._white / self._count
        yaw_rad = wrap_angle_rad(self._origin + self._sum / self._count)
        return Look(yaw_rad, math.sqrt(variance))
