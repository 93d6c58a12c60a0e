"""Our Fast DDS profile carries what the defaults lose: images and clouds between processes."""

from __future__ import annotations

from pathlib import Path

from mm_fusion.bench.ingest import loaded, stream, write_defaults

# As many as a reader keeps, and as a publisher's shared memory holds: a machine that is busy with
# other things loses none of them, either.
COUNT = 8
STREAMS = [
    *(stream("image", f"camera_{n}", COUNT, 4.0) for n in range(3)),
    stream("cloud", "lidar", COUNT, 4.0),
]


def test_images_of_1080p_arrive_whole_with_our_profile(tmp_path: Path) -> None:
    # GIVEN three cameras and a LIDAR, triggered together, with our profile and with the defaults
    ours = loaded(tmp_path / "ours", STREAMS, None)
    plain = loaded(tmp_path / "plain", STREAMS, write_defaults(tmp_path))
    # THEN all of them arrive, but for the first of a topic that the reader may not know of yet
    assert ours["arrived"]["image"] >= 3 * (COUNT - 1)
    assert ours["arrived"]["cloud"] >= COUNT - 1
    # AND only with it
    assert plain["arrived"]["image"] < 3 * COUNT / 2
