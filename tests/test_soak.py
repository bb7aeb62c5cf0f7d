"""A small soak: the instrument works, and says what is not flat."""

import argparse
from pathlib import Path

import pytest

from bench import soak


def test_a_short_soak_samples_everything_and_comes_to_rest(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    soak.add_options(parser)
    given = ("--minutes", "0.15", "--rate", "40", "--every", "1", "--folder", str(tmp_path))
    report = soak.measure(parser.parse_args(given))
    assert report.signals == 360
    assert report.rested and report.sound
    assert report.answers.get("accepted", 0) > 50
    assert sum(report.endings.values()) >= report.answers["accepted"]
    assert len(report.samples) >= 3
    assert all(sample.rss_kib > 10_000 and sample.tasks > 10 for sample in report.samples)
    assert report.most.keys() == soak.SPARE.keys()
    assert 1 < report.a_signal["facts"][0] < 40
    assert 500 < report.a_signal["bytes"][0] < 50_000
    assert soak.lines(report)[-1].startswith("came to rest: True; audit sound: True")
    samples = report.samples
    assert samples[0].journal_bytes < samples[-1].journal_bytes and samples[0].facts < samples[-1].facts


STEADY = {name: (50, 50) for name in soak.SPARE}
COST = {"facts": (6.0, 6.5), "bytes": (8000.0, 7900.0)}


@pytest.mark.parametrize(
    ("memory", "most", "cost", "names"),
    [
        (0.3, {}, {}, ()),
        (-5.0, {"tasks": (60, 40)}, {}, ()),
        (1.2, {}, {}, ("memory",)),
        (0.3, {"descriptors": (30, 60)}, {}, ("descriptors",)),
        (0.3, {"queued": (0, 900), "tasks": (50, 90)}, {}, ("tasks", "queued")),
        (0.3, {}, {"bytes": (8000.0, 12000.0)}, ("bytes a signal",)),
    ],
)
def test_what_is_not_flat_is_named(
    memory: float, most: dict[str, tuple[int, int]], cost: dict[str, tuple[float, float]], names: tuple[str, ...]
) -> None:
    assert soak.grown(memory, STEADY | most, COST | cost) == names


def test_a_slope_is_that_of_the_line() -> None:
    assert soak.slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert soak.slope([(0, 1)]) == 0
