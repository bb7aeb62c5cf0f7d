"""Every parser of outside bytes, given bytes that nobody wrote on purpose.

The rule of all of them: no exception but the declared one, and time that grows with the size of the input, not with
its square. Drawn by Hypothesis: bytes of any kind, bodies built after each dialect's own tables, and sound inputs
with something wrong done to them.

    python -m pytest tests/fuzz                                     a part of the suite, under a minute
    SUREFIRE_FUZZ_EXAMPLES=5000 python -m pytest tests/fuzz         so many examples of each property instead
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings


def fuzzed(examples: int) -> Callable[..., Any]:
    """Settings of one property: `examples` in the suite, SUREFIRE_FUZZ_EXAMPLES of them when that is set."""
    return settings(
        max_examples=int(os.environ.get("SUREFIRE_FUZZ_EXAMPLES", examples)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
