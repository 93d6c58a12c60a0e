"""The synchronizer: what belongs to one instant, of 1 to 4 LIDARs and 1 to 12 cameras.

**References.** Every message of the reference makes a set: of ``sync.reference``, else of the
first LIDAR, else of the first camera. A set holds, of every other sensor, the message whose stamp
(after the sensor's own offset) is nearest to the reference's, if within ``max_dt_s``; of two
equally near the earlier. Each reference gets its own best partners, whatever others got: a sensor
slower than the reference serves several sets with one message. Every reference given is answered
exactly once, at the latest at its deadline: by its set, or by a Rejection (DUPLICATE, LATE,
TIME_JUMP, ZERO_STAMP, REQUIRED_MISSING). Sets go out in the order of their stamps.

**When.** A set goes out as soon as no better partner can still come, at the latest when sensor
time reaches its stamp plus ``deadline_s``. What can still come is learned (:mod:`.rhythm`):

* once 8 gaps are known, a message that would follow the newest sooner than any gap of late, with a
  margin, is not expected: a set whose partner lies before it need not wait for one farther away;
* once 400 messages are known, neither is one that should have come by now, by the longest way from
  stamp to arrival of the last 512 to 1024, with as much margin as these differ: it was lost;
* a gap of more than one and a half periods about the reference's stamp may hide a message that
  others have overtaken: it is waited for as long as messages take. Until 400 are known, that is
  to the deadline. A hole before a reference is treated alike, so that sets stay in order. Only of
  a sensor's very first messages nothing is known: they are taken to be in order;
* a partner silent for ``camera_timeout_s``, or for 8 periods, is not waited for, unless required;
* one that always takes longer than the deadline is not waited for.

**Sensor time** is the newest stamp that the sensors gave, here or through ``advance``, each put on
the reference's clock by what arrivals say (:mod:`.clock`). There is no clock: the same messages
with the same arrivals give the same answers.

**Who leads.** Where the reference is silent others lead: the other LIDARs, then the cameras, in
their order, the first that lives. The reference is overdue half a period after the instant at
which it should have been stamped, and after its longest way: then one message of the next, beside
that instant, makes the set in its place. After two and a half periods, or ``lidar_timeout_s``
(``camera_timeout_s`` where a camera leads; never less than one and a half periods), it is silent
beyond doubt and nobody holds back for it. Others lead at the reference's learned rate: of a 30 Hz
camera every third frame for a 10 Hz LIDAR; every message where that rate is not known. When the
reference returns its first message already makes a set: sets of others that still wait beside it
are withdrawn, their messages become its candidates. Without LIDAR the first camera is the
reference, every frame of it. One never heard of leaves the lead to others at once, but a LIDAR or
a reference named by ``sync.reference``, which has its timeout to begin.

**Required.** A set without one of ``sync.required`` does not go out: its reference is answered
with REQUIRED_MISSING. Its partners stay candidates of the next sets.

**Messages of partners** leave as soon as no later set could prefer them. Those never used are
answered with UNMATCHED, with LATE where they came after a set went out that they would have
bettered, or with OVERFLOW where ``queue_size`` was reached. Those out of order are sorted in while
still of use; a stamp that waits already, or is that of the last message, is a DUPLICATE. A message
stamped zero or less is answered with ZERO_STAMP, and changes nothing.

**Jumps.** A sensor whose stamp falls more than ``time_jump_s`` behind its own newest one (a bag
that loops, a clock set back), or a reference that far behind the last set, resets everything:
waiting sets go out as they are, the message itself is answered with TIME_JUMP, and matching and
learning begin anew. A jump forward moves sensor time: what waits is due and goes out, and what
follows is matched as ever.

Work per message is logarithmic in ``queue_size``; memory is bounded by it.
"""

from mm_fusion.sync.synchronizer import Answers, Synchronizer

__all__ = ["Answers", "Synchronizer"]
