"""What makes a score the chance that its box is right, and from which score on boxes are told.

Focal losses leave scores that rank well and mean little. Over frames that were not trained on, the
logit of every box is set against whether an object of its class is within MATCH_M of it; a
logistic curve per class (Platt, 1999) then goes into the graph. The threshold is the score at
which F1, over all classes, is largest where false boxes are STREET_FALSE_BOXES times as frequent
as in the frames: streets hold more that looks like a vehicle than any simulation does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from mm_fusion.errors import StageError
from mm_fusion.evaluation.detection import match_frame
from mm_fusion.training.frames import CLASSES
from mm_fusion.training.network_torch import FusionNet
from mm_fusion.training.validate import MODES, batches, predict, truth_of

F64 = npt.NDArray[np.float64]
MATCH_M = 2.0
MIN_HITS = 10  # of a class, to tell a curve from
# How much more frequent false boxes were in 33 labelled frames of real streets than in simulated
# ones, per right box of a vehicle: 1.5 to 2.3 times with both senses, 2.3 to 2.5 with the LIDAR.
STREET_FALSE_BOXES = 2.0
PRIOR = 1e-4  # how much the curve clings to what the network says, per box


def calibrate(net: FusionNet, paths: list[Path], senses: str) -> float:
    """Fit ``net``'s score curves on frames, in place; answers the best threshold.

    ``senses`` is one of validate.MODES. Raises StageError where a class is found too seldom.
    """
    net.eval()
    net.score_scale.fill_(1.0)
    net.score_shift.fill_(0.0)
    pools = _collect(net, paths, senses)
    chances, hits, objects = [], [], 0
    for n, name in enumerate(CLASSES):
        score, hit, count = pools[name]
        if np.count_nonzero(hit) < MIN_HITS:
            raise StageError(
                f"calibration: {np.count_nonzero(hit)} boxes of class {name} are right in"
                f" {len(paths)} frames; it takes {MIN_HITS}"
            )
        scale, shift = curve(score, hit)
        net.score_scale[n], net.score_shift[n] = scale, shift
        chances.append(expit(scale * logit(score) + shift))
        hits.append(hit)
        objects += count
    return best_threshold(np.concatenate(chances), np.concatenate(hits), objects)


def _collect(
    net: FusionNet, paths: list[Path], senses: str
) -> dict[str, tuple[F64, npt.NDArray[np.bool_], int]]:
    """By class: scores of all boxes that count, whether each is right, and how many objects."""
    if senses not in MODES:
        raise StageError(f"calibration: no such senses: {senses}")
    matches: dict[str, list] = {name: [] for name in CLASSES}
    for _, frames in batches(paths):
        for frame, found in zip(frames, predict(net, frames, senses), strict=True):
            truth = truth_of(frame, net.grid)
            for name in CLASSES:
                mine = [d for d in found if d["class"] == name]
                objects = [t for t in truth if t.label == name]
                matches[name].append(match_frame(mine, objects, (MATCH_M,)))
    out = {}
    for name, frames_of in matches.items():
        kept = [~m.ignored[0] for m in frames_of]
        pairs = list(zip(frames_of, kept, strict=True))
        score = np.concatenate([m.scores[k] for m, k in pairs])
        hit = np.concatenate([m.hits[0][k] for m, k in pairs])
        out[name] = (np.clip(score, 1e-6, 1 - 1e-6), hit, sum(m.positives for m in frames_of))
    return out


def curve(score: F64, hit: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and shift of the logit under which scores are the chances of a hit."""
    x, y = logit(score), hit.astype(np.float64)

    def cost(p: F64) -> float:
        z = p[0] * x + p[1]
        likely = np.mean(np.logaddexp(0.0, z) - y * z)
        return float(likely + PRIOR * ((p[0] - 1.0) ** 2 + 0.1 * p[1] ** 2))

    found = minimize(cost, np.array([1.0, 0.0]), method="BFGS").x
    return max(float(found[0]), 1e-3), float(found[1])


def best_threshold(chance: F64, hit: npt.NDArray[np.bool_], objects: int) -> float:
    """The chance from which on F1 is largest if every false box stood for STREET_FALSE_BOXES;
    rounded to 0.01."""
    order = np.argsort(-chance, kind="stable")
    right = np.cumsum(hit[order])
    false = STREET_FALSE_BOXES * (np.arange(1, len(order) + 1) - right)
    f1 = 2.0 * right / (right + false + max(objects, 1))
    return round(float(chance[order][int(np.argmax(f1))]), 2)
