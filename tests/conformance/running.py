"""Runs cases and says how each ended; a case that breaks breaks nothing else."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Literal

import trio
from msgspec import Struct

from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from tests.conformance.bench import NO_FAULTS, Bench, NotOffered, Skip
from tests.conformance.cases import Case

CASE_SECONDS = 120.0


class Unreachable(Exception):
    """The venue does not answer."""


NO_PLACE = (Inadmissible, KeyProblem, Unreachable)


class Result(Struct, frozen=True):
    number: int
    name: str
    how: Literal["passed", "failed", "skipped", "not offered"]
    why: str = ""


async def run_all(
    cases: Iterable[Case], place: Callable[[], AbstractAsyncContextManager[Bench]], faults: bool = True
) -> AsyncIterator[Result]:
    """Each at a place of its own."""
    for case in cases:
        if case.faults and not faults:
            yield Result(case.number, case.name, "skipped", NO_FAULTS)
        else:
            yield await run(case, place)


async def run(case: Case, place: Callable[[], AbstractAsyncContextManager[Bench]]) -> Result:
    how: Literal["passed", "failed", "skipped", "not offered"] = "passed"
    why = ""
    ended_by: BaseException | None = None
    try:
        with trio.fail_after(CASE_SECONDS):
            async with place() as bench:
                how, why = await _tried(case, bench)
    except* Exception as group:
        how, why, ended_by = "failed", _first(group), _leaf(group)
    if isinstance(ended_by, NO_PLACE):
        raise ended_by  # no case would come any further
    return Result(case.number, case.name, how, " ".join(why.split())[:300])


async def _tried(case: Case, bench: Bench) -> tuple[Literal["passed", "failed", "skipped", "not offered"], str]:
    try:
        await case.run(bench)
    except Skip as skip:
        return "skipped", str(skip)
    except NotOffered as lack:
        return "not offered", str(lack)
    except ExceptionGroup as group:
        return _ended(group)
    except AssertionError as error:
        return "failed", str(error) or type(error).__name__
    return "passed", ""


def _ended(group: ExceptionGroup[Exception]) -> tuple[Literal["failed", "skipped", "not offered"], str]:
    """Of a case that was listening, trio groups what it raised."""
    if group.subgroup(lambda e: isinstance(e, Skip)) and not group.split(Skip)[1]:
        return "skipped", _first(group)
    if group.subgroup(lambda e: isinstance(e, NotOffered)) and not group.split(NotOffered)[1]:
        return "not offered", _first(group)
    return "failed", _first(group)


def _first(group: BaseException) -> str:
    leaf = _leaf(group)
    return str(leaf) if isinstance(leaf, AssertionError | Skip | NotOffered) else f"{type(leaf).__name__}: {leaf}"


def _leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
