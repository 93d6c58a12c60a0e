"""A result of the first road as plain keys and values, for diagnostics and for files."""

from __future__ import annotations

from mm_fusion.health.modes import Ladder
from mm_fusion.samples import FusionResult


def result_values(
    result: FusionResult, provider: str, ladder: Ladder | None = None
) -> dict[str, str]:
    """One result: mode, what is missing and since when, remarks, milliseconds by station, offsets
    by sensor."""
    values = {
        "mode": result.mode.value,
        "missing": " ".join(result.missing),
        "provider": provider,
        "ego_motion": str(result.ego_motion).lower(),
        "detections": str(len(result.detections)),
        "tracks": str(len(result.tracks)),
    }
    if ladder is not None:
        values.update(ladder.values())
    if result.remarks:
        values["remarks"] = "; ".join(result.remarks)
    for stage, spent_ns in result.stage_ns.items():
        values[f"{stage}_ms"] = f"{spent_ns / 1e6:.3f}"
    for sensor, dt_ns in result.dt_ns.items():
        values[f"dt_ms.{sensor}"] = f"{dt_ns / 1e6:.3f}"
    return values
