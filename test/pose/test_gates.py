"""What the pose road lets in, told as stories."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.config import PoseConfig
from mm_fusion.pose.gates import (
    DatumFinder,
    GoodFix,
    Reacceptance,
    StampGate,
    screen_fix,
)
from mm_fusion.samples import CovarianceType, GnssFix, Reason, Rejection

S = 10**9
T0 = 1_700_000_000 * S
CONFIG = PoseConfig()


def fix(**changes) -> GnssFix:
    values = {
        "sensor": "gps",
        "stamp_ns": T0,
        "frame_id": "gps",
        "latitude_deg": 48.0,
        "longitude_deg": 11.5,
        "altitude_m": 500.0,
        "covariance": np.diag([1.0, 1.0, 4.0]),
        "covariance_type": CovarianceType.DIAGONAL_KNOWN,
        "status": 0,
    }
    return GnssFix(**{**values, **changes})


def good(stamp_ns: int, latitude: float, longitude: float = 11.5) -> GoodFix:
    answer = screen_fix(
        fix(stamp_ns=stamp_ns, latitude_deg=latitude, longitude_deg=longitude), CONFIG
    )
    assert isinstance(answer, GoodFix)
    return answer


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": -1}, Reason.NO_FIX),
        ({"status": -1, "latitude_deg": np.nan}, Reason.NO_FIX),
        ({"latitude_deg": np.nan}, Reason.OUT_OF_RANGE),
        ({"latitude_deg": 95.0}, Reason.OUT_OF_RANGE),
        ({"longitude_deg": -200.0}, Reason.OUT_OF_RANGE),
        ({"latitude_deg": 0.0, "longitude_deg": 0.0}, Reason.OUT_OF_RANGE),
        ({"covariance": np.diag([-1.0, 1.0, 1.0])}, Reason.BAD_COVARIANCE),
        ({"covariance": np.diag([np.nan, 1.0, 1.0])}, Reason.BAD_COVARIANCE),
        ({"covariance": np.diag([1e9, 1.0, 1.0])}, Reason.BAD_COVARIANCE),
        (
            {
                "covariance": np.array([[1.0, 5.0, 0], [5.0, 1.0, 0], [0, 0, 1.0]]),
                "covariance_type": CovarianceType.KNOWN,
            },
            Reason.BAD_COVARIANCE,
        ),
    ],
)
def test_a_fix_that_cannot_be_is_refused_with_its_reason(changes, reason) -> None:
    answer = screen_fix(fix(**changes), CONFIG)
    assert isinstance(answer, Rejection)
    assert answer.reason is reason


def test_covariance_types_are_honoured() -> None:
    """GIVEN the same matrix WHEN its type is unknown THEN the parameter's sigma is used, and said;
    diagonal types drop the rest; known keeps it."""
    full = np.array([[1.0, 0.3, 0], [0.3, 2.0, 0], [0, 0, 4.0]])
    floor = CONFIG.gps_sigma_floor_m**2

    def covariance(kind: CovarianceType) -> GoodFix:
        answer = screen_fix(fix(covariance=full, covariance_type=kind), CONFIG)
        assert isinstance(answer, GoodFix)
        return answer

    unknown = covariance(CovarianceType.UNKNOWN)
    assert np.diagonal(unknown.covariance) == pytest.approx([4.0, 4.0, 16.0])
    assert "2 m per axis assumed" in unknown.assumed
    diagonal = covariance(CovarianceType.DIAGONAL_KNOWN)
    assert diagonal.covariance == pytest.approx(np.diag([1, 2, 4]) + floor * np.eye(3))
    known = covariance(CovarianceType.KNOWN)
    assert known.covariance == pytest.approx(full + floor * np.eye(3))
    assert not known.assumed


@pytest.mark.parametrize(("status", "sigma_m"), [(0, 2.0), (1, 1.0), (2, 0.5)])
def test_what_a_fix_of_unknown_error_is_worth_depends_on_its_status(status, sigma_m) -> None:
    """GIVEN a fix without a covariance WHEN its status tells of corrections (SBAS, GBAS) THEN less
    error is assumed, and said; a covariance that is stated is taken as it is whatever the status.
    """
    answer = screen_fix(fix(covariance_type=CovarianceType.UNKNOWN, status=status), CONFIG)
    assert isinstance(answer, GoodFix)
    assert np.sqrt(np.diagonal(answer.covariance)) == pytest.approx([sigma_m, sigma_m, 2 * sigma_m])
    assert f"{sigma_m:g} m per axis assumed" in answer.assumed
    stated = screen_fix(fix(status=status), CONFIG)
    plain = screen_fix(fix(), CONFIG)
    assert isinstance(stated, GoodFix)
    assert isinstance(plain, GoodFix)
    assert np.array_equal(stated.covariance, plain.covariance)


def test_a_receiver_without_height_is_used_in_the_plane() -> None:
    answer = screen_fix(fix(altitude_m=np.nan), CONFIG)
    assert isinstance(answer, GoodFix)
    assert not answer.has_height
    assert answer.altitude_m == 0.0


def test_the_datum_is_not_a_remembered_place_40_km_away() -> None:
    """GIVEN a receiver whose first fix is 40 km off WHEN good ones follow
    THEN the datum is the first of three that one vehicle could have made."""
    finder = DatumFinder(CONFIG)
    assert finder.add(good(T0, 48.36)) == (None, [])
    assert finder.add(good(T0 + S, 48.0)) == (None, [])
    assert finder.add(good(T0 + 2 * S, 48.00001)) == (None, [])
    plane, run = finder.add(good(T0 + 3 * S, 48.00002))
    assert plane is not None
    assert plane.datum == (48.0, 11.5, 500.0)
    assert len(run) == 3


class TestStamps:
    def test_zero_twice_and_backwards(self) -> None:
        gate = StampGate(1.0)
        assert gate.check("imu", 0).reason is Reason.ZERO_STAMP
        assert gate.check("imu", T0) is None
        assert gate.check("imu", T0).reason is Reason.DUPLICATE
        assert gate.check("imu", T0 - S // 2).reason is Reason.OUT_OF_ORDER
        assert gate.check("gps", T0 - S // 2) is None, "another sensor may be later"

    @pytest.mark.parametrize("jump_s", [-100, 100])
    def test_a_jump_is_believed_when_three_agree(self, jump_s) -> None:
        gate = StampGate(1.0)
        gate.check("imu", T0)
        later = T0 + jump_s * S
        for k in range(3):
            assert gate.check("imu", later + k * S // 10).reason is Reason.TIME_JUMP
            assert gate.jumps == (k == 2)
        assert gate.check("imu", later + S // 2) is None

    def test_one_corrupt_stamp_stops_nothing(self) -> None:
        """GIVEN a stream WHEN single stamps lie years off THEN the stream goes on."""
        gate = StampGate(1.0)
        gate.check("imu", T0)
        for k in range(1, 10):
            assert gate.check("imu", T0 + k * 1000 * S).reason is Reason.TIME_JUMP
            assert gate.check("imu", T0 + k * S // 100) is None
        assert gate.jumps == 0

    def test_a_sensor_with_another_clock_does_not_reset_the_others(self) -> None:
        gate = StampGate(1.0)
        for k in range(1, 50):
            assert gate.check("imu", T0 + k * S // 100) is None
            if k % 5 == 0:
                assert gate.check("gps", k * S).reason is Reason.TIME_JUMP
        assert gate.jumps == 0

    def test_a_sensor_that_was_held_up_is_late_and_no_jump(self) -> None:
        """GIVEN two sensors WHEN one comes 13 s behind the other, stamp after stamp, as after a
        stall that made the faster one's queue run over THEN it is late, and time stays."""
        gate = StampGate(1.0)
        for k in range(1, 100):
            assert gate.check("imu", T0 + k * S // 10) is None
            if k % 10 == 0:
                assert gate.check("odom", T0 + k * S // 10) is None
        ahead = T0 + 40 * S  # the stall: what came in between ran over
        said = [gate.check("imu", ahead + k * S // 10) for k in range(6)]
        assert [r is not None and r.reason is Reason.TIME_JUMP for r in said] == [True] * 3 + [
            False
        ] * 3
        for k in range(6, 60):
            assert gate.check("imu", ahead + k * S // 10) is None
            late = gate.check("odom", T0 + 27 * S + k * S // 10)
            assert late is not None
            assert late.reason is Reason.LATE
            assert "held up on the way" in late.detail
        assert gate.jumps == 1


class TestReacceptance:
    def offsets(self, gate: Reacceptance, offsets, speed: float = 5.0, rate: float = 5.0):
        """When (s) the fixes are believed; None if never."""
        for k, (x, y) in enumerate(offsets):
            stamp = T0 + round((k + 1) * S / rate)
            enu = np.array([k * speed / rate + x, y, 0.0])
            if gate.refused(stamp, enu, np.array([x, y, 0.0]), 1.0, speed) is not None:
                return (k + 1) / rate
        return None

    def test_a_sudden_jump_must_persist_long(self) -> None:
        """GIVEN good GPS WHEN fixes jump by 30 m and stay there THEN 30 s pass first."""
        gate = Reacceptance(CONFIG)
        gate.accepted(T0)
        when = self.offsets(gate, [(30.0, 0.0)] * 300)
        assert when == pytest.approx(30.0, abs=0.5)

    def test_after_a_blackout_the_filter_is_suspected_first(self) -> None:
        gate = Reacceptance(CONFIG)
        gate.accepted(T0 - 60 * S)
        when = self.offsets(gate, [(500.0, 100.0)] * 300)
        assert when is not None
        assert when <= 5.0

    def test_what_goes_off_gradually_is_believed_soon(self) -> None:
        """GIVEN a heading that is wrong WHEN fixes go off with the way THEN 3 s are enough."""
        gate = Reacceptance(CONFIG)
        gate.accepted(T0)
        when = self.offsets(gate, [(0.3 * k, 0.0) for k in range(300)])
        assert when is not None
        assert when <= 4.0

    def test_fixes_that_disagree_among_themselves_are_never_believed(self) -> None:
        gate = Reacceptance(CONFIG)
        gate.accepted(T0 - 60 * S)
        rng = np.random.default_rng(3)
        assert self.offsets(gate, rng.uniform(-200, 200, (600, 2))) is None


@pytest.mark.parametrize(("adrift", "believed"), [(True, True), (False, False)])
def test_a_filter_with_nothing_but_an_accelerometer_is_the_suspect(adrift, believed) -> None:
    """GIVEN fixes that jumped 50 m off the filter from one to the next, as one vehicle could have
    made them WHEN the filter has nothing but an accelerometer for its speed THEN they are believed
    after the short time; WHEN it has wheels THEN not before the long one."""
    gate = Reacceptance(CONFIG)
    gate.accepted(T0)
    told = [
        gate.refused(
            T0 + k * S, np.array((10.0 * k, 0, 0)), np.array((50.0, 0, 0)), 1.0, 10.0, adrift
        )
        for k in range(1, 11)
    ]
    late = int(CONFIG.gps_recover_s) + 1
    assert not any(told[: late - 1])
    assert any(told[late - 1 :]) == believed


def test_fixes_that_no_vehicle_made_are_not_believed_against_an_accelerometer() -> None:
    """GIVEN the same filter WHEN refused fixes leap about by hundreds of metres THEN none is
    believed, however long."""
    gate, rng = Reacceptance(CONFIG), np.random.default_rng(3)
    gate.accepted(T0)
    for k in range(1, 60):
        leap = np.array((*rng.normal(0, 300.0, 2), 0.0))
        assert gate.refused(T0 + k * S, leap, leap, 1.0, 10.0, True) is None
