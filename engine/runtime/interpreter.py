"""How the interpreter is set once all is up and the first signal may come: threads' turns, and garbage."""

import gc
import sys

TURN_SECONDS = 0.00005
GARBAGE_AFTER = 10_000  # objects; Python's own 700 are reached every thirty signals, in the middle of one's way


def settle_down() -> None:
    """Short turns, so that the end of a commit does not wait for the loop (PERFORMANCE).

    What start-up made is not looked through again, and what came since not for every handful of orders: they leave
    nothing that goes round in a circle, and a look costs as much as an order.
    """
    sys.setswitchinterval(TURN_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
