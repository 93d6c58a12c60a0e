"""Overlay pictures of some sets of a run: the camera's view and the view from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation import figures, records
from mm_fusion.evaluation.pictures import camera_picture
from mm_fusion.evaluation.report import encoded, load_run_scenes, sure
from mm_fusion.evaluation.truth import Truth

FOLDER = "overlays"


def write_overlays(directory: Path, bag: Path, count: int) -> list[Path]:
    """Write pictures of ``count`` sets spread evenly over a run to ``overlays/``; their paths.

    ``camera_<stamp>.png`` shows boxes and points projected into the image, ``above_<stamp>.png``
    the same from above.
    """
    lines = records.read_lines(directory / records.DETECTIONS)
    if count <= 0 or not lines:
        return []
    picked = np.unique(np.linspace(0, len(lines) - 1, min(count, len(lines))).round().astype(int))
    folder = directory / FOLDER
    paths = []
    try:
        folder.mkdir(exist_ok=True)
        summary = records.read_summary(directory)
        chosen = [sure(lines[i], summary) for i in picked]
        for scene in load_run_scenes(directory, bag, chosen, Truth()):
            if scene.image is not None:
                paths.append(folder / f"camera_{scene.stamp_ns}.png")
                paths[-1].write_bytes(encoded(camera_picture(scene)))
            paths.append(folder / f"above_{scene.stamp_ns}.png")
            paths[-1].write_bytes(figures.png(figures.birds_eye(scene)))
    except OSError as error:
        raise MmFusionError(f"{folder}: cannot be written: {error.strerror}") from error
    return paths
