"""One seed, one order of tasks. A guard for the private parts of trio that this rests on."""

import trio
import trio.testing

from engine.runtime.schedule import JumpClock, seeded_schedule


def trace(seed: int) -> list[tuple[int, int]]:
    """In which order ten tasks take their turns."""
    turns: list[tuple[int, int]] = []

    async def turn(number: int) -> None:
        for step in range(10):
            turns.append((number, step))
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(turn, number)

    with seeded_schedule(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return turns


def test_a_seed_gives_one_order_of_tasks():
    assert trace(1) == trace(1) == trace(1)


def test_other_seeds_give_other_orders():
    assert trace(1) != trace(2)


def test_afterwards_chance_is_as_it_was():
    state = trio._core._run._r.getstate()
    trace(5)
    assert trio._core._run._r.getstate() == state


def naps(clock: trio.abc.Clock) -> list[tuple[float, int]]:
    """When each of five tasks wakes from naps that often end together."""
    woken: list[tuple[float, int]] = []

    async def nap(number: int) -> None:
        for _ in range(20):
            await trio.sleep(number % 3 * 0.25)
            woken.append((trio.current_time(), number))

    async def main() -> None:
        with trio.move_on_after(4):
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(nap, number)

    with seeded_schedule(3):
        trio.run(main, clock=clock)
    return woken


def test_the_jumping_clock_shows_the_times_of_trios_own():
    jumped = naps(JumpClock())
    assert jumped == naps(trio.testing.MockClock(autojump_threshold=0))
