"""The scenes of a simulated set once more, under something that went wrong.

A frame of a set depends on its seed and its place alone, so its town, traffic and sensors can be
made again, and looked at in fog, by night, or by a camera whose pictures are older than they say.
What a variant does not touch it does not store: the sweep, the truth and the projection that the
calibration believes in are those of the frame itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mm_fusion.datasets.frame import (
    VARIANTS_FOLDER,
    Cloud,
    LabelledFrame,
    read_frame,
    write_frame,
)
from mm_fusion.errors import StageError
from mm_fusion.sim.camera import render
from mm_fusion.sim.companions import companions
from mm_fusion.sim.frames import (
    DRIVE_S,
    EXTENT_M,
    believed_projection,
    frame_times,
    placed_cloud,
    random_demand,
)
from mm_fusion.sim.lens import Lens
from mm_fusion.sim.lidar import sweep
from mm_fusion.sim.rigs import Rig, Wanted, random_rig
from mm_fusion.sim.shading import Light
from mm_fusion.sim.weather import Weather
from mm_fusion.sim.world import World, build_world

SAME_PX = 0.3  # a projection made again may differ by this: exposures are stored in 0.1 ms


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that goes wrong.

    ``late_s`` is how much older the picture is than its stamp says; ``other_s`` takes it from
    another instant of the drive, with other traffic (a picture that stands still). ``kind`` and
    ``heavy`` are those of Weather.of; ``night`` takes the sun away.
    """

    late_s: float = 0.0
    other_s: float = 0.0
    kind: str = ""
    heavy: float = 0.0
    night: bool = False

    @property
    def sweeps(self) -> bool:
        """Whether the LIDAR sees it, too."""
        return bool(self.kind)

    def fits(self, rig: Rig) -> bool:
        """Whether it changes such a frame: fog comes over dry days only, night over days."""
        return not (self.kind or self.night) or (not rig.light.night and rig.weather.kind == "dry")


VARIANTS: dict[str, Variant] = {
    "late_10ms": Variant(late_s=0.01),
    "late_30ms": Variant(late_s=0.03),
    "late_100ms": Variant(late_s=0.1),
    "frozen_2s": Variant(other_s=2.0),
    "dark": Variant(night=True),
    "fog_200m": Variant(kind="fog", heavy=0.5),
    "fog_60m": Variant(kind="fog", heavy=1.0),
    "rain_moderate": Variant(kind="rain", heavy=0.5),
    "rain_heavy": Variant(kind="rain", heavy=1.0),
}


def write_drive_variants(
    folder: Path, drive: int, frames: range, seed: int, wanted: Wanted, names: tuple[str, ...]
) -> int:
    """Write ``folder/variants/NAME/`` files of one drive's frames; those that are there stay.

    A frame that a variant does not fit (rain over fog) gets no file. The answer is how many were
    written. Raises StageError where a stored frame is not the one that is made here.
    """
    jobs = {n: [v for v in names if not _path(folder, v, n).exists()] for n in frames}
    if not any(jobs.values()):
        return 0
    rng = np.random.default_rng([seed, drive])
    world = build_world(rng, EXTENT_M, DRIVE_S, random_demand(rng), country=wanted.country)
    written = 0
    for k, (number, t) in enumerate(zip(frames, frame_times(world), strict=False)):
        path = folder / f"{number:06d}.npz"
        if not jobs[number] or not path.exists():
            continue
        own = np.random.default_rng([seed, drive, k])
        rig = random_rig(own, wanted)
        wider = world.with_movers(companions(world, float(t), own))
        stored = read_frame(path)
        _check_same(path, stored, wider, rig, float(t))
        for name in jobs[number]:
            if VARIANTS[name].fits(rig):
                out = _path(folder, name, number)
                out.parent.mkdir(parents=True, exist_ok=True)
                write_frame(out, make_variant(stored, world, wider, rig, float(t), name))
                written += 1
    return written


def make_variant(
    stored: LabelledFrame, world: World, wider: World, rig: Rig, t: float, name: str
) -> LabelledFrame:
    """What the sensors see of a frame under a variant; its cloud is empty where that is the
    frame's own. ``wider`` is the world with the frame's own vehicles."""
    variant = VARIANTS[name]
    rng = np.random.default_rng([int(1e4 * t), len(stored.cloud.xyz), *name.encode()])
    exposed = t + float(stored.conditions["exposure_offset_s"]) - variant.late_s
    if variant.other_s:
        exposed = t - variant.other_s if t > variant.other_s + 0.2 else t + variant.other_s
        wider = world.with_movers(companions(world, exposed, rng))
    rig = _changed(rig, variant, rng)
    cloud = Cloud.empty()
    if variant.sweeps:
        cloud = placed_cloud(wider, rig, sweep(wider, rig.lidar, t, rng, rig.weather), (t, t), rng)
    picture = render(wider, rig.camera, exposed, rig.light, rng)
    told = {**stored.conditions, "variant": name, "weather": rig.weather.kind}
    told.update(night=rig.light.night, visibility_m=round(rig.weather.visibility_m))
    return replace(stored, cloud=cloud, images=(picture.image,), previous=None, conditions=told)


def _changed(rig: Rig, variant: Variant, rng: np.random.Generator) -> Rig:
    """The same sensors under the variant's sky."""
    camera, light, weather = rig.camera, rig.light, rig.weather
    if variant.night:
        light = Light.dark(rng).under(weather)
        camera = replace(camera, key=0.4 * camera.key, noise=2.0 * camera.noise)
    if variant.kind:
        weather = Weather.of(variant.kind, variant.heavy)
        light = light.under(weather)
    if variant.kind == "rain":
        drops = {"streaks": round(20 + 200 * variant.heavy), "drops": round(14 * variant.heavy)}
        lens: Lens = replace(camera.lens, **drops)
        camera = replace(camera, lens=lens)
    return replace(rig, camera=camera, light=light, weather=weather)


def _check_same(path: Path, stored: LabelledFrame, world: World, rig: Rig, t: float) -> None:
    """The camera made again must look where the stored one looked."""
    exposed = t + float(stored.conditions["exposure_offset_s"])
    again = believed_projection(world, rig, t, exposed)
    ahead = np.array([15.0, 2.0, 1.0, 1.0])
    pixels = [m @ ahead for m in (again, stored.pixel_from_base[0].astype(np.float64))]
    apart = float(np.abs(pixels[0][:2] / pixels[0][2] - pixels[1][:2] / pixels[1][2]).max())
    if not apart <= SAME_PX:
        raise StageError(
            f"{path}: is not the frame that its set's options make here (its camera is"
            f" {apart:.2f} px off): the simulator has changed since; make the set anew"
        )


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / VARIANTS_FOLDER / name / f"{number:06d}.npz"
