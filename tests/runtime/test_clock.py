"""The loop's clock: it may be kept from sleeping, never for longer than was asked."""

from engine.runtime.clock import LoopClock


def test_a_loop_is_kept_awake_until_it_may_sleep_again() -> None:
    clock = LoopClock()
    clock.start_clock()
    assert clock.deadline_to_sleep_time(clock.current_time() + 1000) > 900
    clock.stay_awake(1000.0)
    assert clock.deadline_to_sleep_time(clock.current_time() + 1000) == 0
    clock.stay_awake(0)
    assert clock.deadline_to_sleep_time(clock.current_time() + 1000) > 900


def test_what_nobody_takes_back_is_over_by_itself() -> None:
    clock = LoopClock()
    clock.stay_awake(1e-9)
    while clock.deadline_to_sleep_time(clock.current_time() + 1000) == 0:
        pass
