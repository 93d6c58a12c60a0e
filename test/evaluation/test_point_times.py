"""A bag's LIDAR times are read as the live node reads them, and the summary says how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support import bags

from mm_fusion import wire
from mm_fusion.config import Config, load
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.order import in_stamp_order, read_samples
from mm_fusion.evaluation.replay import replay
from mm_fusion.evaluation.topics import find_inputs
from mm_fusion.samples import LidarSweep

MS = 1_000_000
SWEEPS = 20
LENGTH_NS = 99_900_000


def timed_cloud(stamp_ns: int) -> object:
    """A cloud whose points count nanoseconds from the start of the sweep."""
    points = np.zeros(500, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("t", "u4")])
    for name in "xyz":
        points[name] = np.linspace(1.0, 20.0, 500)
    points["t"] = np.linspace(0, LENGTH_NS, 500)
    plain = bags.cloud(stamp_ns, np.zeros((500, 3)))
    extra = bags.make("sensor_msgs/msg/PointField", name="t", offset=12, datatype=6, count=1)
    return dataclasses.replace(
        plain, fields=[*plain.fields[:3], extra], data=points.view(np.uint8).ravel()
    )


def rows(delay_ms: float) -> list[bags.Row]:
    """Sweeps that were recorded a while after their stamps, a little sooner or later each."""
    late = np.random.default_rng(1).uniform(0.0, 4.0, SWEEPS)
    stamps = [bags.START_NS + n * 100 * MS for n in range(SWEEPS)]
    return [
        ("/lidar/points", s + round((delay_ms + x) * MS), timed_cloud(s))
        for s, x in zip(stamps, late, strict=True)
    ]


def sweeps_of(path: Path, config: Config) -> list[tuple[int, LidarSweep]]:
    with Bag(path) as bag:
        inputs = find_inputs(bag.topics, config, "bag")
        lidars = wire.Lidars(config.lidar, config.topics.lidars)
        found = list(in_stamp_order(read_samples(bag, inputs, lidars), config))
    return [(a.stamp_ns, a.sample) for a in found if isinstance(a.sample, LidarSweep)]


@pytest.mark.parametrize(
    ("delay_ms", "offset_ns"), [(104.0, 0), (5.0, -LENGTH_NS), (55.0, -LENGTH_NS / 2)]
)
def test_recorded_arrivals_tell_where_the_stamp_is(
    tmp_path: Path, delay_ms: float, offset_ns: float
) -> None:
    # GIVEN a bag whose sweeps were recorded so long after their stamps
    path = bags.write_bag(tmp_path / "bag", rows(delay_ms))
    found = sweeps_of(path, Config())
    assert len(found) == SWEEPS
    # THEN the last sweeps are read as a live node would read them
    for stamp_ns, sweep in found[-5:]:
        assert sweep.time_offset_ns == pytest.approx(offset_ns, abs=0.2 * MS)
        # and take their place in the replay where they ended
        ended_ns = sweep.stamp_ns + LENGTH_NS + offset_ns
        assert stamp_ns == pytest.approx(ended_ns, abs=0.2 * MS)
        assert sweep.arrival_ns > ended_ns
    # AND a second reading gives the same
    again = [s.time_offset_ns for _, s in sweeps_of(path, Config())]
    assert again == [s.time_offset_ns for _, s in found]


def test_parameters_reach_a_replay_and_the_summary_says_how_times_were_read(
    tmp_path: Path,
) -> None:
    drive = [r for r in bags.drive_rows(2.0) if r[0] != "/lidar/points"]
    bag = bags.write_bag(tmp_path / "bag", sorted(drive + rows(104.0), key=lambda r: r[1]))
    config = load(assignments=["lidar.time_reference=[end]"])
    summary = replay(bag, tmp_path / "out", config, single_modalities=False)
    said = summary["source"]["lidars"]["lidar/points"]
    assert said == "times from field 't', ns, relative; the stamp is the end of the sweep"
