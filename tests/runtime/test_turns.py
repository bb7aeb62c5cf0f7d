"""Short turns: what the operating system says of a thread that has asked for them (Linux 6.12 and later)."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import threading

import pytest

from engine.runtime.turns import SLICE_NS, take_short_turns

GET = {"x86_64": 315, "aarch64": 275}  # sched_getattr
SHORT = "from engine.runtime.turns import take_short_turns; took = take_short_turns()\n"
SAY = "from tests.runtime.test_turns import seen; print(took, *seen())"


def seen() -> tuple[int, int]:
    """Nice value and slice in ns of this thread; a slice of 0 is a system that does not tell."""
    found = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall(GET[platform.machine()], 0, found, 56, 0) == 0
    fields = struct.unpack("=IIQiIQQQII", found.raw)
    return fields[3], fields[5]


def in_a_process(program: str, *before: str) -> list[str]:
    """What it prints. In a process of its own: the tests' own turns stay as they are."""
    done = subprocess.run([*before, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in GET or seen()[1] == 0,
    reason="this system tells nothing of slices",
)


def test_the_slice_is_short_and_the_nice_value_stays():
    assert in_a_process(SHORT + SAY, "nice", "-n", "3") == ["True", str(os.nice(0) + 3), str(SLICE_NS)]


def test_threads_that_are_started_afterwards_have_it_too():
    program = (
        SHORT + "import threading\nfrom tests.runtime.test_turns import in_a_thread; print(took, in_a_thread()[1])"
    )
    assert in_a_process(program) == ["True", str(SLICE_NS)]


def test_a_policy_that_was_chosen_stays():
    program = "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))\n" + SHORT
    assert in_a_process(program + "print(took, os.sched_getscheduler(0) == os.SCHED_BATCH)") == ["False", "True"]


def test_a_system_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not take_short_turns()


def in_a_thread() -> tuple[int, int]:
    found = []
    thread = threading.Thread(target=lambda: found.append(seen()))
    thread.start()
    thread.join()
    return found[0]
