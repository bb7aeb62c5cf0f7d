"""How the interpreter is set once all is up and the first signal may come: threads' turns, and garbage.

Orders leave nothing that goes round in a circle, so a look for garbage finds none; but it looks at all that came since
the last one, and takes the time of whoever is at work. Python's own comes after so many objects, which is always in the
middle of something: ten thousand took 2 to 3 ms out of one order in four hundred. Ours come by the clock, with so few
objects to look at that no order is long held up.
"""

import gc
import sys
from itertools import count

import trio

TURN_SECONDS = 0.00005
GARBAGE_AFTER = 10_000  # objects, in a burst; Python's own 700 are reached every thirty signals
LOOK_SECONDS = 0.1
OLDER_EVERY = 50  # looks: what was there at several
OLDEST_EVERY = 6000


def settle_down() -> None:
    """Short turns, so that the end of a commit does not wait for the loop (PERFORMANCE).

    What start-up made is not looked through again.
    """
    sys.setswitchinterval(TURN_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
    trio.lowlevel.spawn_system_task(look_for_garbage)


async def look_for_garbage() -> None:
    """For ever."""
    for look in count(1):
        await trio.sleep(LOOK_SECONDS)
        gc.collect(2 if look % OLDEST_EVERY == 0 else 1 if look % OLDER_EVERY == 0 else 0)
