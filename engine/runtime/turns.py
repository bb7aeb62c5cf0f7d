"""How soon the operating system gives us a processor when we wake up while others compute.

Linux hands processors out in slices, and whoever computes keeps one until the next tick of its clock: up to 4 ms, for
which a step of 0.2 ms then waits. A thread that asks for short slices gets no more of a processor, but gets it sooner.
That needs no privilege (sched_setattr(2): sched_runtime of SCHED_OTHER; before Linux 6.12 it has no effect).
"""

import ctypes
import os
import platform
import struct

SLICE_NS = 100_000  # the least that Linux knows
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")  # struct sched_attr: size, policy, flags, nice, priority, runtime, ...
_SET = {"x86_64": 314, "aarch64": 274}  # the system call's number; neither Python nor Debian's libc has a name for it


def take_short_turns() -> bool:
    """For this thread, and for threads and processes that it starts from now on. Whether the system has done it.

    A policy of its own (`chrt`) is whoever started the process's choice, and stays; a nice value does, too.
    """
    call = _SET.get(platform.machine()) if platform.system() == "Linux" else None
    if call is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0, 0, 0)
    return bool(ctypes.CDLL(None).syscall(call, 0, wanted, 0) == 0)
