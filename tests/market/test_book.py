from decimal import Decimal
from random import Random

import pytest

from engine.core.messages import Side
from engine.market.book import Book, Gap
from engine.market.events import BookDelta, BookSnapshot, Level, TopOfBook


def side(*levels: str) -> tuple[Level, ...]:
    """`side("100x2", "99x0")`"""
    return tuple((Decimal(p), Decimal(q)) for p, q in (level.split("x") for level in levels))


def snapshot(last_id, bids=("100x1", "99x2", "98x3"), asks=("101x1", "102x2", "103x3"), at_ns=10):
    return BookSnapshot("X", at_ns, last_id, side(*bids), side(*asks))


def delta(first_id, last_id, prev_id=None, bids=(), asks=(), at_ns=20):
    return BookDelta("X", at_ns, first_id, last_id, prev_id, side(*bids), side(*asks))


def ticker(update_id, bid, ask, at_ns=30):
    (bid, bid_qty), (ask, ask_qty) = side(bid, ask)
    return TopOfBook("X", at_ns, update_id, bid, bid_qty, ask, ask_qty)


def book_of(*events):
    book = Book("X")
    for event in events:
        book.apply(event)
    return book


def shown(book):
    return tuple(book.levels(Side.BUY)), tuple(book.levels(Side.SELL))


def test_levels_come_best_first_on_both_sides():
    book = book_of(snapshot(5, bids=("98x3", "100x1", "99x2"), asks=("103x3", "101x1", "102x2")))
    assert shown(book) == (side("100x1", "99x2", "98x3"), side("101x1", "102x2", "103x3"))
    assert tuple(book.levels(Side.SELL, 2)) == side("101x1", "102x2")
    assert (book.best_bid(), book.best_ask()) == (side("100x1")[0], side("101x1")[0])


def test_a_delta_sets_adds_and_removes_levels_and_a_removal_of_nothing_is_nothing():
    book = book_of(snapshot(5), delta(6, 9, bids=("100x0", "99x7", "99.5x4", "42x0"), asks=("101x9",)))
    assert shown(book) == (side("99.5x4", "99x7", "98x3"), side("101x9", "102x2", "103x3"))
    assert (book.last_id, book.at_ns) == (9, 20)


SPOT = [
    # (last id of the snapshot, (first, last) of each delta, broken)
    (5, [(6, 6)], False),
    (5, [(4, 7)], False),
    (5, [(1, 5), (6, 8)], False),
    (5, [(1, 3), (2, 4)], False),
    (5, [(7, 8)], True),
    (5, [(6, 8), (10, 12)], True),
    (5, [(6, 8), (7, 12)], False),
]


@pytest.mark.parametrize(("last_id", "deltas", "broken"), SPOT)
def test_spot_deltas_follow_by_number(last_id, deltas, broken):
    book = book_of(snapshot(last_id), *(delta(first, last) for first, last in deltas))
    assert book.broken is broken
    if not broken:
        assert book.last_id == max(last_id, deltas[-1][1])


FUTURES = [
    # (last id of the snapshot, (first, last, previous) of each delta, broken); numbers have holes
    (50, [(48, 55, 47), (60, 65, 55)], False),
    (50, [(52, 55, 50)], False),
    (50, [(40, 50, 39), (60, 65, 50)], False),
    (50, [(53, 55, 49)], False),
    (50, [(53, 55, 51)], True),
    (50, [(48, 55, 47), (56, 65, 54)], True),
    (50, [(48, 55, 47), (56, 65, 56)], True),
]


@pytest.mark.parametrize(("last_id", "deltas", "broken"), FUTURES)
def test_futures_deltas_follow_by_the_one_before(last_id, deltas, broken):
    book = book_of(snapshot(last_id), *(delta(*ids) for ids in deltas))
    assert book.broken is broken


def test_a_gap_is_told_once_and_lasts_until_the_next_snapshot():
    book = book_of(snapshot(5))
    gap = book.apply(delta(8, 9, at_ns=77))
    assert gap == Gap("X", "update 8 to 9 does not follow 5", 77)
    assert book.broken and book.reason == gap.reason
    assert (book.quote(), book.best_bid(), shown(book)) == (None, None, ((), ()))
    assert book.apply(delta(10, 11)) is None
    assert book.broken
    assert book.apply(snapshot(9, bids=("90x1",), asks=("91x1",), at_ns=80)) is None
    assert not book.broken and book.reason == ""
    assert book.last_id == 11, "the delta that came while it was broken continues the snapshot"


def test_before_its_first_snapshot_a_book_is_broken_and_says_so():
    book = book_of(delta(1, 2), ticker(3, "100x1", "101x1"))
    assert book.broken and book.reason == "no snapshot yet"
    assert book.quote() is None


def test_deltas_that_came_before_the_snapshot_are_used_as_far_as_they_continue_it():
    early = [delta(1, 4, bids=("100x9",)), delta(5, 8, bids=("99x9",)), delta(9, 9, asks=("101x9",))]
    book = book_of(*early, snapshot(6))
    assert shown(book) == (side("100x1", "99x9", "98x3"), side("101x9", "102x2", "103x3"))
    assert book.last_id == 9


def test_a_snapshot_that_does_not_reach_the_waiting_deltas_leaves_a_gap():
    book = Book("X")
    book.apply(delta(20, 30))
    assert isinstance(book.apply(snapshot(6)), Gap)
    assert book.broken
    assert book.apply(snapshot(25)) is None
    assert not book.broken and book.last_id == 30


def test_an_overtaken_snapshot_does_not_turn_a_good_book_back():
    book = book_of(snapshot(5), delta(6, 9, bids=("100x4",)))
    book.apply(snapshot(7, bids=("50x1",), asks=("51x1",)))
    assert book.best_bid() == side("100x4")[0]
    book.apply(snapshot(10, bids=("50x1",), asks=("51x1",)))
    assert book.best_bid() == side("50x1")[0]


def test_the_ticker_runs_ahead_of_the_depth_without_crossing_it():
    book = book_of(snapshot(5), ticker(9, "98x7", "99x8"))
    assert shown(book) == (side("98x7"), side("99x8", "101x1", "102x2", "103x3"))
    book.apply(ticker(10, "101.5x1", "102x9"))
    assert shown(book) == (side("101.5x1", "100x1", "99x2", "98x3"), side("102x9", "103x3"))
    assert book.quote().at_ns == 30


def test_the_depth_takes_over_again_when_it_has_caught_up_with_the_ticker():
    book = book_of(snapshot(5), ticker(9, "98x7", "99x8"), delta(6, 8, bids=("100x5",)))
    assert book.best_bid() == side("98x7")[0], "the delta is older than the ticker"
    book.apply(delta(9, 9, bids=("100x6",)))
    assert shown(book)[0] == side("100x6", "99x2", "98x3")


def test_a_ticker_older_than_the_depth_or_than_the_last_ticker_is_ignored():
    book = book_of(snapshot(5), ticker(5, "90x1", "91x1", at_ns=99))
    assert book.best_bid() == side("100x1")[0] and book.at_ns == 10
    book.apply(ticker(9, "99x7", "101x8"))
    book.apply(ticker(8, "90x1", "91x1", at_ns=99))
    assert book.best_bid() == side("99x7")[0] and book.at_ns == 30


def test_a_side_that_the_ticker_says_is_empty_is_empty():
    book = book_of(snapshot(5), ticker(9, "0x0", "101x8"))
    assert book.best_bid() is None and book.quote() is None
    assert book.best_ask() == side("101x8")[0]


def test_a_crossed_book_is_broken_whatever_crossed_it():
    assert isinstance(Book("X").apply(snapshot(5, bids=("102x1",))), Gap)
    assert isinstance(book_of(snapshot(5)).apply(delta(6, 6, bids=("101x1",))), Gap)
    assert isinstance(book_of(snapshot(5)).apply(ticker(6, "101x1", "101x1")), Gap)


def test_random_deltas_give_the_same_book_as_a_plain_dictionary():
    rng = Random(7)
    book, plain = book_of(snapshot(1, bids=(), asks=())), ({}, {})
    for update in range(2, 2000):
        bids = tuple((Decimal(rng.randint(50, 99)), Decimal(rng.randint(0, 3))) for _ in range(rng.randint(0, 4)))
        asks = tuple((Decimal(rng.randint(100, 150)), Decimal(rng.randint(0, 3))) for _ in range(rng.randint(0, 4)))
        assert book.apply(BookDelta("X", update, update, update, None, bids, asks)) is None
        for levels, changes in zip(plain, (bids, asks), strict=True):
            levels.update(changes)
        expected_bids = tuple(sorted(((p, q) for p, q in plain[0].items() if q), reverse=True))
        expected_asks = tuple(sorted((p, q) for p, q in plain[1].items() if q))
        assert shown(book) == (expected_bids, expected_asks)
