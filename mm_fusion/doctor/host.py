"""This machine: socket buffers, shared memory, middleware, environment; and the network file."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from mm_fusion import resources
from mm_fusion.config import Config
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.observations import HostFacts, ModelFacts, Observations
from mm_fusion.errors import MmFusionError
from mm_fusion.shared_memory import stale_segments

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
VARIABLES = (
    "ROS_DOMAIN_ID",
    "ROS_LOCALHOST_ONLY",
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_STATIC_PEERS",
    "ROS_DISCOVERY_SERVER",
    "RMW_IMPLEMENTATION",
    "RMW_FASTRTPS_USE_QOS_FROM_XML",
    *PROFILE_VARIABLES,
)
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
LARGE_BYTES = 400_000  # Fast DDS' default shared memory holds half a megabyte
TAGS = {
    "receive_wanted": "receiveBufferSize",
    "send_wanted": "sendBufferSize",
    "segment_wanted": "segment_size",
}


def read_host(environment: Mapping[str, str], rmw: str = "", root: str = "/") -> HostFacts:
    """What this machine is like. ``root`` is where /proc and /dev are."""
    kept = {name: environment[name] for name in VARIABLES if environment.get(name)}
    profile = next((kept[v] for v in PROFILE_VARIABLES if v in kept), "")
    wanted, problem = read_profile(profile or str(resources.share_path("config/fastdds.xml")))
    size, free = _shared_memory(Path(root) / "dev/shm")
    stale = stale_segments(Path(root) / "dev/shm")
    return HostFacts(
        environment=kept,
        rmem_max=_number(Path(root) / "proc/sys/net/core/rmem_max"),
        wmem_max=_number(Path(root) / "proc/sys/net/core/wmem_max"),
        shm_size=size,
        shm_free=free,
        stale_segments=stale.count,
        stale_bytes=stale.total_bytes,
        rmw=rmw or kept.get("RMW_IMPLEMENTATION", ""),
        profile=profile,
        profile_error=problem,
        **wanted,
    )


def read_profile(path: str) -> tuple[dict[str, int], str]:
    """Buffer and segment sizes that a Fast DDS profile asks for, and why it cannot be read."""
    try:
        tree = ET.fromstring(Path(path).read_text(encoding="utf-8"))
        found = {}
        for name, tag in TAGS.items():
            sizes = [int(e.text or "0") for e in tree.iter() if e.tag.rpartition("}")[2] == tag]
            found[name] = max(sizes, default=0)
    except (OSError, UnicodeDecodeError, ET.ParseError, ValueError) as problem:
        return dict.fromkeys(TAGS, 0), f"{path}: {problem}"
    return found, ""


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0  # not Linux, or not told to this user


def _shared_memory(path: Path) -> tuple[int, int]:
    try:
        stat = os.statvfs(path)
    except OSError:
        return 0, 0
    return stat.f_frsize * stat.f_blocks, stat.f_frsize * stat.f_bavail


def read_model(config: Config) -> ModelFacts:
    """The network, loaded as the fusion node loads it."""
    from mm_fusion.perception.detectors import open_network
    from mm_fusion.perception.network import FusionNetwork
    from mm_fusion.perception.runtime import available_providers

    settings = config.network
    model = config.model or settings.model or "the packaged network"
    available = available_providers()
    try:
        network = open_network(config)
    except MmFusionError as problem:
        text = " ".join(str(problem).split())
        return ModelFacts(model, settings.provider, available=available, error=text)
    contract = network.contract if isinstance(network, FusionNetwork) else None
    return ModelFacts(
        model=str(network.model_path),
        asked=settings.provider,
        provider=network.provider,
        available=available,
        camera_slots=contract.camera_slots if contract else None,
        point_budget=contract.point_budget if contract else 0,
    )


# ------------------------------------------------------------------------------- findings


def check_host(seen: Observations) -> list[Finding]:
    """What stands between a large message and its receiver on this host."""
    host = seen.host
    if host is None:
        return []
    findings = _check_environment(host.environment)
    largest = max((s.bytes_max for s in seen.streams.values()), default=0)
    if host.rmw and "fastrtps" not in host.rmw:
        what = f"the middleware is {host.rmw}: config/fastdds.xml says nothing to it"
        remedy = "Give that middleware large buffers its own way, or use rmw_fastrtps_cpp."
        findings.append(warn("rmw", "RMW_IMPLEMENTATION", what, remedy))
        return findings
    if host.profile_error:
        remedy = "Name a file that is there and is XML: Fast DDS runs with its defaults."
        findings.append(error("profile", "Fast DDS profile", host.profile_error, remedy))
    elif not host.profile and largest > LARGE_BYTES:
        what = f"no profile is set here, and messages of {largest / 1e6:.1f} MB come in"
        remedy = (
            "Set FASTRTPS_DEFAULT_PROFILES_FILE to config/fastdds.xml for the drivers (the nodes of"
            " mm_fusion do so themselves): Fast DDS' defaults lose most of such messages."
        )
        findings.append(warn("profile", "FASTRTPS_DEFAULT_PROFILES_FILE", what, remedy))
    return findings + _check_buffers(host) + _check_shared_memory(host) + _check_stale(host)


def _check_buffers(host: HostFacts) -> list[Finding]:
    findings = []
    for name, have, wanted in (
        ("net.core.rmem_max", host.rmem_max, host.receive_wanted),
        ("net.core.wmem_max", host.wmem_max, host.send_wanted),
    ):
        if 0 < have < wanted:
            what = f"is {have} bytes, the profile asks for {wanted}"
            remedy = (
                f"sudo sysctl -w {name}={wanted} (and a line in /etc/sysctl.d): else large messages"
                " from other hosts are lost."
            )
            findings.append(warn("socket-buffer", name, what, remedy))
    return findings


def _check_shared_memory(host: HostFacts) -> list[Finding]:
    wanted = host.segment_wanted
    if not host.shm_size or not wanted:
        return []
    what = (
        f"holds {host.shm_size >> 20} MiB, {host.shm_free >> 20} MiB free; every participant takes"
        f" {wanted >> 20} MiB"
    )
    remedy = (
        "Give the container more (docker run --shm-size=2g, or --ipc=host), or make segment_size in"
        " the profile smaller."
    )
    if host.shm_free < wanted:
        return [error("shared-memory", "/dev/shm", what, remedy)]
    if host.shm_free < 4 * wanted:
        return [warn("shared-memory", "/dev/shm", what, remedy)]
    return []


def _check_stale(host: HostFacts) -> list[Finding]:
    if not host.stale_segments:
        return []
    what = (
        f"{host.stale_segments} segments of Fast DDS, {host.stale_bytes >> 20} MiB, belong to"
        " processes that were killed"
    )
    remedy = "Run: fastdds shm clean (it removes what no living process has locked)."
    return [warn("stale-segments", "/dev/shm", what, remedy)]


def _check_environment(given: Mapping[str, str]) -> list[Finding]:
    findings = []
    scope = given.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    only = given.get("ROS_LOCALHOST_ONLY", "")
    if scope and scope.upper() not in RANGES:
        remedy = f"Set it to one of {', '.join(RANGES)}."
        findings.append(warn("discovery", "ROS_AUTOMATIC_DISCOVERY_RANGE", f"is '{scope}'", remedy))
    if scope.upper() == "OFF":
        what = "is OFF: no other node is found"
        remedy = "Set it to LOCALHOST or SUBNET."
        findings.append(error("discovery", "ROS_AUTOMATIC_DISCOVERY_RANGE", what, remedy))
    if only == "1":
        what = "is 1: nodes on other hosts are not found"
        if scope and scope.upper() != "LOCALHOST":
            what += f", whatever ROS_AUTOMATIC_DISCOVERY_RANGE={scope} says"
        remedy = "Unset it and use ROS_AUTOMATIC_DISCOVERY_RANGE, which has taken its place."
        findings.append(warn("discovery", "ROS_LOCALHOST_ONLY", what, remedy))
    return findings + _check_domain(given.get("ROS_DOMAIN_ID", ""))


def _check_domain(domain: str) -> list[Finding]:
    if not domain:
        return []
    if not domain.isdigit() or int(domain) > 232:
        return [error("domain", "ROS_DOMAIN_ID", f"is '{domain}'", "Set a number of 0 .. 101.")]
    if int(domain) > 101:
        what = f"is {domain}: its ports meet those of outgoing connections"
        return [warn("domain", "ROS_DOMAIN_ID", what, "Choose 0 .. 101.")]
    return []


def check_model(seen: Observations, config: Config) -> list[Finding]:
    """Whether the network loads where it was asked to, and has room for the cameras."""
    model = seen.model
    if model is None:
        return []
    if model.error:
        remedy = "Run mm_fusion check-model, and correct network.model or network.provider."
        return [error("network", "network.model", model.error, remedy)]
    findings = []
    cameras = len(config.topics.camera_names())
    if model.camera_slots is not None and cameras > model.camera_slots:
        what = f"{cameras} cameras are configured, {model.model} takes {model.camera_slots}"
        remedy = "Name fewer in topics.cameras, or export a network for as many (export --cameras)."
        findings.append(error("camera-slots", "topics.cameras", what, remedy))
    if model.asked == "auto" and model.provider == "cpu":
        what = f"the network runs on the CPU; ONNX Runtime has {', '.join(model.available)}"
        remedy = "On a machine with an NVIDIA GPU install onnxruntime-gpu; else nothing."
        findings.append(info("provider", "network.provider", what, remedy))
    return findings
