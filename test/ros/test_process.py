"""What a process of ours sets for itself, in processes that show what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.live import ROOT

from mm_fusion.nodes import process

# 20 images of 6 MB, each of them there three times for a moment, as it is between the transport and
# Python; answers how many pages had to be found anew.
FAULTS = """
import resource
from mm_fusion.nodes import process
{prepare}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
images = []
for n in range(21):
    before = before if n > 1 else faults()
    images = [bytearray(b"x") * 6_000_000 for _ in range(3)]
    images.clear()
print(faults() - before)
"""
PROFILE = """
import os
from mm_fusion.nodes import process
process.begin(["test"])
print(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"])
"""


def run(program: str, folder: Path = ROOT, **environ: str) -> str:
    """The last line of a Python program that starts without the variables in question."""
    unset = {name for name, _, _ in process.MALLOC} | set(process.PROFILE_VARIABLES)
    env = {k: v for k, v in os.environ.items() if k not in unset}
    env |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{env.get('PYTHONPATH', '')}", **environ}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


def test_the_memory_of_an_image_serves_the_next_one() -> None:
    # GIVEN 20 images of 1465 pages, each there three times
    kept = int(run(FAULTS.format(prepare="process.keep_memory()")))
    given_back = int(run(FAULTS.format(prepare="")))
    # THEN their memory is found once, and without the setting for each of them again
    assert kept < 5_000
    assert given_back > 40_000


def test_what_the_environment_says_of_memory_stays() -> None:
    prepared = FAULTS.format(prepare="process.keep_memory()")
    assert int(run(prepared, MALLOC_MMAP_THRESHOLD_="131072")) > 40_000


def test_a_node_names_our_transport_profile_where_none_is_named(tmp_path: Path) -> None:
    assert run(PROFILE, tmp_path) == str(ROOT / "config" / "fastdds.xml")


def test_a_users_transport_profile_stays(tmp_path: Path) -> None:
    # GIVEN a profile in the variable, THEN it stays
    mine = tmp_path / "mine.xml"
    mine.write_text((ROOT / "config" / "fastdds.xml").read_text())
    assert run(PROFILE, FASTRTPS_DEFAULT_PROFILES_FILE=str(mine)) == str(mine)
    # GIVEN one where Fast DDS looks for it without a variable, THEN none is set
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "DEFAULT_FASTRTPS_PROFILES.xml").write_text(mine.read_text())
    asked = PROFILE.replace(
        '["FASTRTPS_DEFAULT_PROFILES_FILE"]', ".get('FASTRTPS_DEFAULT_PROFILES_FILE')"
    )
    assert run(asked, folder) == "None"


SETTLED = """
import gc
from mm_fusion.nodes import process
before = len(gc.get_objects())
process.settle()
print(before, len(gc.get_objects()))
"""


def test_the_garbage_collector_looks_only_at_what_comes_later() -> None:
    before, left = map(int, run(SETTLED).split())
    assert before > 10_000
    assert left < before / 20
