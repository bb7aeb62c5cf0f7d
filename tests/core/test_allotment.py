"""Who asks for which shard: everybody works out the same, nothing moves without need, and all get their part."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.allotment import Member, Shard, allot

NAMES = ("a", "b", "c", "d", "e", "f", "g")


def shards(count: int) -> tuple[Shard, ...]:
    return tuple(Shard(name) for name in NAMES[:count])


def engines(*holding: str) -> tuple[Member, ...]:
    """Each given by the letters of its shards."""
    return tuple(Member(f"id-{place}", f"engine-{place}", tuple(held)) for place, held in enumerate(holding))


def told(plan: dict[str, str], members: tuple[Member, ...]) -> list[str]:
    return ["".join(sorted(name for name, to in plan.items() if to == member.id)) for member in members]


def after(plan: dict[str, str], members: tuple[Member, ...]) -> tuple[Member, ...]:
    """The same engines once everybody has what is planned."""
    return tuple(replace(m, holding=tuple(name for name, to in plan.items() if to == m.id)) for m in members)


def test_one_engine_alone_asks_for_everything() -> None:
    alone = engines("")
    assert told(allot(shards(5), alone), alone) == ["abcde"]


def test_nobody_alive_asks_for_nothing() -> None:
    assert allot(shards(3), ()) == {}


def test_a_second_engine_gets_its_share_and_the_first_keeps_the_rest() -> None:
    two = engines("abcd", "")
    assert told(allot(shards(4), two), two) == ["ab", "cd"]


def test_what_a_dead_engine_held_is_shared_out_and_nothing_else_moves() -> None:
    left = engines("ab", "cd")  # a third had e and f
    assert told(allot(shards(6), left), left) == ["abe", "cdf"]


def test_a_third_engine_is_not_left_idle_where_shares_do_not_come_out_even() -> None:
    three = engines("ab", "cd", "")
    assert told(allot(shards(4), three), three) == ["ab", "c", "d"]


def test_a_preferred_engine_gets_its_shard_back_when_it_is_alive_again() -> None:
    wanted = (Shard("a", prefer=("engine-1", "engine-0")), Shard("b", prefer=("engine-0",)))
    alone, both = engines("b"), engines("ab", "")
    assert told(allot(wanted, alone), alone) == ["ab"]
    assert told(allot(wanted, both), both) == ["b", "a"]


def test_a_shard_that_fails_to_start_on_one_engine_goes_to_another_or_to_nobody() -> None:
    two = (Member("id-0", "engine-0", ("a",), cannot=("a",)), Member("id-1", "engine-1"))
    assert allot(shards(1), two) == {"a": "id-1"}
    assert allot(shards(1), two[:1]) == {}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[tuple[Shard, ...], tuple[Member, ...]]:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    count = draw(st.integers(1, 4))
    some = st.lists(st.sampled_from(names), unique=True, max_size=len(names)).map(tuple)
    wanted = st.lists(st.sampled_from([f"engine-{n}" for n in range(5)]), unique=True, max_size=2).map(tuple)
    found = tuple(Shard(name, prefer=draw(wanted)) for name in names)
    return found, tuple(
        Member(f"id-{place}", f"engine-{place}", draw(some), draw(st.one_of(st.just(()), some)))
        for place in range(count)
    )


@given(worlds())
def test_whoever_can_be_given_a_shard_is_and_only_such(world: tuple[tuple[Shard, ...], tuple[Member, ...]]) -> None:
    found, members = world
    plan = allot(found, members)
    for shard in found:
        able = {member.id for member in members if shard.name not in member.cannot}
        assert plan.get(shard.name) in able if able else shard.name not in plan
        liked = [name for name in shard.prefer if any(m.name == name and m.id in able for m in members)]
        if liked:
            assert next(m.name for m in members if m.id == plan[shard.name]) == liked[0]


@given(worlds())
def test_what_was_given_stays_where_it_is(world: tuple[tuple[Shard, ...], tuple[Member, ...]]) -> None:
    found, members = world
    plans = [allot(found, members)]
    for _ in range(len(found) + 2):
        members = after(plans[-1], members)
        plans.append(allot(found, members))
    assert plans[-1] == plans[-2]


@given(worlds())
def test_without_a_wish_all_have_as_many_give_or_take_one(
    world: tuple[tuple[Shard, ...], tuple[Member, ...]],
) -> None:
    found = tuple(replace(shard, prefer=()) for shard in world[0])
    members = tuple(replace(member, cannot=()) for member in world[1])
    plan = allot(found, members)
    counts = [list(plan.values()).count(member.id) for member in members]
    assert max(counts) - min(counts) <= 1
    assert allot(found, after(plan, members)) == plan
