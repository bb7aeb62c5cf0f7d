"""A small soak: the instrument works, and what must end where it began does so even in seconds."""

import argparse
from pathlib import Path

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
    assert len(report.samples) >= 8
    assert all(sample.rss_kib > 10_000 and sample.tasks > 10 for sample in report.samples)
    assert report.descriptors[1] <= report.descriptors[0] + soak.SPARE
    assert report.threads[1] <= report.threads[0] + soak.SPARE
    assert 1 < report.facts_a_signal[0] < 40
    assert 500 < report.journal_bytes_a_signal < 50_000
    assert soak.lines(report)[-1].startswith("came to rest: True; audit sound: True")


def test_a_slope_is_that_of_the_line() -> None:
    assert soak.slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert soak.slope([(0, 1)]) == 0
