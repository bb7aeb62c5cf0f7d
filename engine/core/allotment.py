"""Which engine is to ask for which shard's lease: the same answer for everybody who knows the same. PURE.

Nothing here is relied on for safety: two engines that see the world differently ask for one lease, and one gets it.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct


class Shard(Struct, frozen=True):
    """Accounts that are owned together. `prefer`: names of engines, the best first."""

    name: str
    accounts: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()


class Member(Struct, frozen=True):
    """An engine that is alive. `holding`: what it has, or has asked for; `cannot`: what fails to start there."""

    id: str
    name: str
    holding: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()


class _Shares:
    """How many each has been given, and who may have one more before others have fewer."""

    def __init__(self, shards: int, members: Sequence[Member]) -> None:
        self.counts = {member.id: 0 for member in members}
        self._fair, self._larger = divmod(shards, max(len(members), 1))

    def give(self, to: str) -> None:
        self.counts[to] += 1
        self._larger -= self.counts[to] == self._fair + 1

    def room(self, member: Member) -> bool:
        count = self.counts[member.id]
        return count < self._fair or (count == self._fair and self._larger > 0)


def allot(shards: Sequence[Shard], members: Sequence[Member]) -> dict[str, str]:
    """Member ids by shard; a shard that nobody can hold is left out.

    First who is preferred, whatever else it has; then who holds it, within a fair share; then who has fewest.
    """
    shares = _Shares(len(shards), members)
    found: dict[str, str] = {}

    def settle(choose: "_Choose") -> None:
        for shard in shards:
            able = [member for member in members if shard.name not in member.cannot]
            if shard.name not in found and able and (chosen := choose(shard, able, shares)):
                shares.give(chosen.id)
                found[shard.name] = chosen.id

    for choose in (_preferred, _holder, _least_laden):
        settle(choose)
    return found


def _preferred(shard: Shard, able: Sequence[Member], shares: _Shares) -> Member | None:
    return next((member for name in shard.prefer for member in able if member.name == name), None)


def _holder(shard: Shard, able: Sequence[Member], shares: _Shares) -> Member | None:
    return next((member for member in able if shard.name in member.holding and shares.room(member)), None)


def _least_laden(shard: Shard, able: Sequence[Member], shares: _Shares) -> Member | None:
    return min(able, key=lambda member: (shares.counts[member.id], member.name, member.id))


_Choose: TypeAlias = Callable[[Shard, Sequence[Member], _Shares], Member | None]
