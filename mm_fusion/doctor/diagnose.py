"""All checks over all observations, and the table of the sensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from mm_fusion.config import Config
from mm_fusion.doctor import cameras, clouds, motion_sensors
from mm_fusion.doctor.findings import Finding, Report, worst_first
from mm_fusion.doctor.frames import check_frames
from mm_fusion.doctor.graph import check_graph
from mm_fusion.doctor.host import check_host, check_model
from mm_fusion.doctor.inputs import SENSORS, check_inputs
from mm_fusion.doctor.observations import Observations, Stream
from mm_fusion.doctor.rejected import check_rejections
from mm_fusion.doctor.skew import check_clocks, clock_state
from mm_fusion.doctor.timing import check_rhythm, rhythm

DESCRIBE = {
    "camera": cameras.describe,
    "lidar": clouds.describe,
    "gps": motion_sensors.describe_gps,
    "imu": motion_sensors.describe_imu,
    "wheels": motion_sensors.describe_wheels,
}


def diagnose(seen: Observations, config: Config) -> Report:
    """The report on one graph or bag."""
    findings: list[Finding] = [
        *check_inputs(seen.inputs, seen.topics, seen.live),
        *check_graph(seen),
        *check_rhythm(seen, config),
        *check_clocks(seen, config),
        *check_rejections(seen),
        *check_frames(seen, config),
        *check_cameras_and_clouds(seen, config),
        *motion_sensors.check_motion_sensors(seen, config),
        *check_host(seen),
        *check_model(seen, config),
    ]
    rows = [sensor_row(s, config) for role in SENSORS for s in seen.of_role(role) if s.messages]
    return Report(
        seen.source,
        seen.live,
        seen.duration_s,
        tuple(worst_first(findings)),
        tuple(rows),
        facts(seen),
    )


def check_cameras_and_clouds(seen: Observations, config: Config) -> list[Finding]:
    """The content of the large messages."""
    return [*cameras.check_cameras(seen), *clouds.check_clouds(seen, config)]


def sensor_row(stream: Stream, config: Config) -> dict[str, Any]:
    """One row of the table. Latency is arrival minus stamp, with the difference of the clocks."""
    beat = rhythm(stream, config.sync.time_jump_s)
    clock = clock_state(stream)
    row: dict[str, Any] = {
        "topic": stream.topic,
        "role": stream.role,
        "type": stream.msgtype,
        "frame": stream.frame,
        "messages": stream.messages,
        "rate_hz": round(beat.rate_hz, 2),
        "jitter_ms": round(1e3 * beat.jitter_s, 2),
        "lost": beat.lost,
        "latency_ms": None,
        "latency_jitter_ms": None,
        "drift_ppm": None,
        "clock": "arrival",
        "bytes": round(stream.bytes_total / max(stream.messages, 1)),
        "content": DESCRIBE[stream.role](stream) if stream.role in DESCRIBE else "",
    }
    if clock is not None:
        drift = clock.offset.drift_ppm
        row["latency_ms"] = round(clock.median_ms, 2)
        row["latency_jitter_ms"] = round(clock.offset.jitter_ms, 2)
        row["drift_ppm"] = None if drift is None else round(drift, 1)
        row["clock"] = "/clock" if clock.simulated else "arrival"
    else:
        row["latency_ms"] = _latency_ms(stream)
    return row


def _latency_ms(stream: Stream) -> float | None:
    """The median where there were too few messages for an estimate."""
    stamps = stream.stamps()
    stamped = stamps != 0
    if not stamped.any():
        return None
    return round(float(np.median((stream.arrivals() - stamps)[stamped])) / 1e6, 2)


def facts(seen: Observations) -> dict[str, Any]:
    """What was found out and is no finding."""
    out: dict[str, Any] = {
        "inputs": {i.wanted.parameter: i.topic.name if i.topic else None for i in seen.inputs},
        "topics": len(seen.topics),
        "transforms": sorted({f"{k.parent} -> {k.child}" for k in seen.links}),
        "clock_publishers": seen.clock_publishers,
    }
    if seen.model is not None:
        out["network"] = {
            "model": seen.model.model,
            "asked": seen.model.asked,
            "provider": seen.model.provider,
            "available": list(seen.model.available),
        }
    if seen.host is not None:
        host = seen.host
        out["host"] = {
            "rmw": host.rmw,
            "profile": host.profile,
            "rmem_max": host.rmem_max,
            "wmem_max": host.wmem_max,
            "shm_size": host.shm_size,
            "shm_free": host.shm_free,
            "stale_segments": host.stale_segments,
            "stale_bytes": host.stale_bytes,
            "environment": host.environment,
        }
    return out
