"""Faults on demand: which request of which operation shall suffer what, and how often. Nothing here draws lots."""

from collections.abc import Iterable
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace


class Woe(Enum):
    """What can happen to a request. Streams, accounts and the clock suffer by `Deed`s of the admin face instead."""

    LOSE_REQUEST = "lose_request"  # the connection closes, nothing was done
    LOSE_REPLY = "lose_reply"  # it is done, and the connection closes without a word
    HANG = "hang"  # it is done, and no answer comes for `ms`
    DELAY = "delay"  # it arrives `ms` later, as it was signed
    DELAY_REPLY = "delay_reply"  # it is done at once, the answer comes `ms` later
    REFUSE = "refuse"  # nothing is done; answered with `code`, `text` and `status`
    REFUSE_DONE = "refuse_done"  # it is done, and answered all the same with `code`, `text` and `status`
    GARBAGE = "garbage"  # it is done; the answer is half a JSON text
    PAGE = "page"  # it is done; the answer is a page of HTML with status 200
    REJECT_LATER = "reject_later"  # an order is acknowledged, and rejected on the stream


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`on` is an operation (order.create, order.place, ...) or a beginning of one, "" for all; `face` likewise."""

    do: Woe
    on: str = ""
    face: str = ""
    times: int = 1  # 0: until it is cleared
    skip: int = 0  # so many that match go by before it begins
    ms: int = 1000
    code: int = 10016
    text: str = "Server error."
    status: int = 200


class FaultPlan:
    """The faults that are still to happen, first come, first served; a request suffers one at most."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)
        self.suffered = 0

    def draw(self, face: str, operation: str) -> Fault | None:
        for at, fault in enumerate(self.faults):
            if operation.startswith(fault.on) and face.startswith(fault.face):
                if fault.skip:
                    self.faults[at] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times == 1:
                    del self.faults[at]
                elif fault.times:
                    self.faults[at] = replace(fault, times=fault.times - 1)
                self.suffered += 1
                return fault
        return None
