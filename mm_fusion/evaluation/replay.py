"""A bag through both roads, without ROS: the same pipelines, in the order of the stamps.

``replay`` leaves ``detections.jsonl``, ``tracks.jsonl``, ``pose.tum``, ``pose_local.tum``,
``gps.tum``, ``timing.jsonl`` and ``summary.json`` in a directory. All but the measured times
(``timing.jsonl``, and ``latency_ms`` and ``timing`` in the summary) is the same in every run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.errors import StageError
from mm_fusion.evaluation import records
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.clocks import RecordedClocks
from mm_fusion.evaluation.evaluate import evaluate_run
from mm_fusion.evaluation.files import Files
from mm_fusion.evaluation.order import Arrival, calibration_first, in_stamp_order, read_samples
from mm_fusion.evaluation.roads import Answer, Roads, rejections_of
from mm_fusion.evaluation.summary import Tally, summarize
from mm_fusion.evaluation.topics import Inputs, find_inputs
from mm_fusion.evaluation.truth import known_truth
from mm_fusion.perception.detectors import Network, open_network
from mm_fusion.samples import NS_PER_S, FusionResult, Mode, PoseEstimate, Reason

Progress = Callable[[float, str], None]


def replay(
    bag: str | Path,
    out: str | Path,
    config: Config,
    progress: Progress | None = None,
    single_modalities: bool = True,
) -> dict[str, Any]:
    """Run both roads over a bag and write what came of it to ``out``; answers the summary.

    Where the bag carries the truth, the summary holds the scores; and where that includes true
    objects, the perception road runs twice more, with each input withheld from the same network
    (``only_camera``, ``only_lidar``), unless ``single_modalities`` is False. Raises BagError for
    a bag that cannot be used, ContractError for a network that cannot, ConfigError for parameters.
    """
    directory, show = Path(out), progress or _silent
    with Bag(bag) as opened:
        inputs = find_inputs(opened.topics, config, str(bag))
        named = inputs.config(config)
        network = open_network(named) if inputs.perception() else None
        known = known_truth(opened)
        summary = _Drive(opened, inputs, named, network).run(directory, show, "replay")
        _check_use(summary, directory, str(bag))
        both = any(inputs.lidars) and any(inputs.cameras)
        if known.objects and both and single_modalities:
            for kept, folder in records.SINGLE.items():
                drive = _Drive(opened, inputs, withhold(named, kept), network)
                drive.run(directory / folder, show, f"{kept} only")
    if known.objects or known.trajectory:
        evaluate_run(directory, Path(bag))
        summary = records.read_summary(directory)
    return summary


def withhold(config: Config, kept: str) -> Config:
    """The configuration with all but one input (``camera`` or ``lidar``) kept from the network."""
    network = dataclasses.replace(
        config.network, use_camera=kept == "camera", use_lidar=kept == "lidar"
    )
    return dataclasses.replace(config, network=network)


def _check_use(summary: Mapping[str, Any], directory: Path, bag: str) -> None:
    """StageError where not one set could be used and no pose came of the bag either."""
    modes = dict(summary["modes"])
    modes.pop(Mode.NONE.value, None)
    poses = (directory / records.POSE, directory / records.POSE_LOCAL)
    if modes or any(path.stat().st_size for path in poses):
        return
    reasons = [
        f"{sensor}: {reason}, {count} times: {summary['drop_details'][sensor][reason]}"
        for sensor, counts in summary["drops"].items()
        for reason, count in counts.items()
    ]
    unplaced = any(Reason.NO_EXTRINSICS.value in counts for counts in summary["drops"].values())
    hint = " (frames.base and calibration.extrinsics say where sensors sit)" if unplaced else ""
    what = "; ".join(reasons) or "no usable message"
    raise StageError(f"{bag}: nothing came of it: {what}{hint}")


def _facts(network: Network | None) -> dict[str, Any] | None:
    return None if network is None else network.facts()


def _silent(share: float, label: str) -> None:
    """No progress wanted."""


class _Drive:
    """One passage of a bag through the roads."""

    def __init__(self, bag: Bag, inputs: Inputs, config: Config, network: Network | None) -> None:
        self.bag, self.inputs, self.config, self.network = bag, inputs, config, network
        self.roads = Roads(config, network, time.perf_counter_ns)
        self.tally = Tally(config)
        self.lidars = wire.Lidars(config.lidar, config.topics.lidars)

    def run(self, directory: Path, show: Progress, label: str) -> dict[str, Any]:
        """Drive the whole bag, write the files, answer the summary."""
        started = time.perf_counter()
        with Files(directory) as files:
            for arrival in calibration_first(self.bag, self.inputs):
                self._take(arrival, files)
            first_ns, span_ns = self.bag.start_ns, max(self.bag.end_ns - self.bag.start_ns, 1)
            arrivals = read_samples(self.bag, self.inputs, self.lidars)
            clocks = RecordedClocks(self.config)
            for arrival in in_stamp_order(clocks.watch(arrivals), self.config):
                self.tally.arrived(arrival.sample)
                self._take(arrival, files)
                show(min((arrival.log_ns - first_ns) / span_ns, 0.99), label)
            self._answer(self.roads.finish(), files)
            files.gps(self.tally.fixes, self.roads.pose.datum, self.tally.refused)
        show(1.0, label)
        spent_s = time.perf_counter() - started
        summary = summarize(
            self.tally,
            source={
                "kind": "replay",
                "bag": str(self.bag.path),
                "topics": self.inputs.notes,
                "lidars": self.lidars.report(),
            },
            config=self.config,
            provider=self.network.provider if self.network else None,
            network=_facts(self.network),
            datum=self.roads.pose.datum,
            warnings=self.roads.warnings(),
            clocks=clocks.summary(),
            lidar_odometry=self.roads.pose.sweep_counts(),
            timing={
                "wall_s": round(spent_s, 3),
                "bag_s": round(span_ns / NS_PER_S, 3),
                "realtime_factor": round(span_ns / NS_PER_S / spent_s, 2),
            },
        )
        return records.write_summary(directory, summary)

    def _take(self, arrival: Arrival, files: Files) -> None:
        self._answer(self.roads.add(arrival.sample), files)

    def _answer(self, answers: Sequence[Answer], files: Files) -> None:
        for rejection in rejections_of(answers):
            self.tally.rejected(rejection)
        for answer in answers:
            if isinstance(answer, FusionResult):
                self.tally.answered(answer)
                files.result(answer)
            elif isinstance(answer, PoseEstimate):
                files.pose(answer, is_global=answer.frame_id == self.config.frames.map)
