"""Which rate does the engine keep up with: does a backlog or the latency grow while the signals keep coming?

Each rate is a run of `path` of its own, without floors. It is sustained when everything arrived, at the end no more
signals were under way than come in within 20 ms, and the last quarter waited at most 20 ms longer than the first.
Targets: 1,000 plain orders a second, or 300 signals a second with fill, stop and target each.
"""

import argparse

from msgspec import Struct
from msgspec.structs import replace

from bench import path

PLAIN_RATES = (200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0)
FILL_RATES = (100.0, 200.0, 300.0, 400.0)
ALLOWED_SECONDS = 0.02


class Step(Struct, frozen=True):
    sustained: bool
    report: path.Report


class Report(Struct, frozen=True):
    steps: tuple[Step, ...]
    sustained_rate: float  # the highest below which every step was sustained; 0: none was


def add_options(parser: argparse.ArgumentParser) -> None:
    path.add_options(parser)
    parser.set_defaults(rate=0.0, orders="ioc", durability="process")
    parser.epilog = "--rate 0 (the default) raises the rate in steps until it is too much"


def measure(arguments: argparse.Namespace) -> Report:
    terms = replace(path.terms_of(arguments), floors=False)
    if terms.rate:
        rates: tuple[float, ...] = (terms.rate,)
    else:
        rates = FILL_RATES if terms.orders == "fills" else PLAIN_RATES
    steps: list[Step] = []
    for rate in rates:
        report = path.run(replace(terms, rate=rate))
        steps.append(Step(sustained(report), report))
        if not steps[-1].sustained:
            break
    held = [step.report.terms.rate for step in steps if step.sustained]
    return Report(tuple(steps), max(held, default=0.0))


def sustained(report: path.Report) -> bool:
    drift = report.p50_last_quarter - report.p50_first_quarter
    backlog = report.backlog_at_end / report.terms.rate
    return report.complete and backlog <= ALLOWED_SECONDS and drift <= ALLOWED_SECONDS * 1_000_000


def lines(report: Report) -> list[str]:
    told: list[str] = []
    for step in report.steps:
        told += path.lines(step.report)
        told += ["sustained" if step.sustained else "NOT sustained", ""]
    return [*told, f"sustained: {report.sustained_rate:g} signals/s"]
