"""Every venue adapter passes every case at a place of our own, by REST and by its order socket."""

from functools import partial

import pytest

from tests.conformance.cases import CASES, Case
from tests.conformance.running import run
from tests.conformance.sites import OFFERS, SITES
from tests.conformance.test_kit import NOT_OFFERED, SKIPPED

# What goes by the order socket where there is one; the rest of the cases does not know of it.
BY_SOCKET = (1, 2, 6, 8, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29, 32, 33, 34, 35, 50, 51)


# ccxt works in processes of its own, which take seconds to come up: of its cases, what differs most from the others.
BY_CCXT = (1, 16, 17, 35, 45)


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in SITES for case in CASES if not name.startswith("ccxt") or case.number in BY_CCXT],
    ids=lambda value: value if isinstance(value, str) else f"{value.number:02d}-{value.run.__name__}",
)
async def test_an_adapter_conforms(name: str, case: Case) -> None:
    result = await run(case, partial(SITES[name], False))
    story = case.run.__name__
    expected = "skipped" if story in SKIPPED.get(name, ()) else "passed"
    expected = "not offered" if story in NOT_OFFERED[name] else expected
    assert result.how == expected, f"{case.number}. {case.name}: {result.how}: {result.why}"


@pytest.mark.parametrize("case", [c for c in CASES if c.number in BY_SOCKET], ids=lambda case: case.run.__name__)
@pytest.mark.parametrize("name", [name for name in OFFERS if not name.startswith("ccxt")])
async def test_an_adapter_conforms_by_its_order_socket(name: str, case: Case) -> None:
    result = await run(case, partial(SITES[name], True))
    assert result.how != "failed", f"{case.number}. {case.name}: {result.why}"
