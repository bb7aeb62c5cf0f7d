"""Strict JSON: what is read exactly, and what is refused with its field named."""

import json
import random
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.messages import Refusal
from engine.edges.strict import DEPTH_MAX, SIZE_MAX, body_hash, canonical, read
from tests.patience import quickest


def reasons(raw: bytes) -> dict[str, str]:
    found = read(raw)
    assert isinstance(found, tuple), found
    return {refusal.field: refusal.reason for refusal in found}


def body(raw: bytes) -> dict:
    found = read(raw)
    assert isinstance(found, dict), found
    return found


@pytest.mark.parametrize("text", ["1.10", "0.1", "60123.50", "100000000000000000000", "1E-8", "-0.0", "12e3"])
def test_numbers_keep_the_digits_that_were_sent(text: str) -> None:
    assert str(body(b'{"a":%b}' % text.encode())["a"]) == str(Decimal(text))


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        (b"", "", "empty"),
        (b"  \r\n", "", "empty"),
        (b"{", "", "is not JSON"),
        (b'{"a":1,}', "", "is not JSON"),
        (b'{"a":1} x', "", "is not JSON"),
        (b"{'a':1}", "", "is not JSON"),
        (b'{"a":01}', "", "is not JSON"),
        (b'{"a":"\x01"}', "", "is not JSON"),
        (b"[1]", "", "not a list"),
        (b"3", "", "not a number"),
        (b'"x"', "", "not a text"),
        (b"null", "", "not null"),
        (b'{"a":"\xff"}', "", "offset 6"),
        (b"\xef\xbb\xbf{}", "", "is not JSON"),
        ("{}".encode("utf-16"), "", "is not UTF-8"),
        (b'{"a":NaN}', "a", "NaN"),
        (b'{"a":{"b":[1,-Infinity]}}', "a.b[1]", "-Infinity"),
        (b'{"price":1e400}', "price", "out of all bounds"),
        (b'{"price":1e-400}', "price", "out of all bounds"),
        (b'{"price":1e99999999999999999999}', "price", "out of all bounds"),
        (b'{"n":' + b"9" * 5000 + b"}", "n", "40 characters"),
        (b'{"a":1,"a":1}', "a", "more than once"),
        (b'{"a":{"b":1,"c":2,"b":3}}', "a.b", "more than once"),
        (b'{"a":"\\ud800"}', "a", "half of a character"),
        (b'{"a":"\xed\xa0\x80"}', "", "not UTF-8"),
        (b'{"a":"x\\u0000y"}', "a", "U+0000"),
        (b'{"a":"x\\by"}', "a", "U+0008"),
        (b'{"a":"\x7f"}', "a", "U+007F"),
        ('{"a":"buy \u202eyub"}'.encode(), "a", "U+202E"),
        (b'{"a\\u0007":1}', "a\\x07", "U+0007"),
    ],
)
def test_what_is_doubtful_is_refused_by_its_field(raw: bytes, field: str, words: str) -> None:
    found = reasons(raw)
    assert words in found[field]


def test_all_flaws_are_told_at_once() -> None:
    found = reasons(b'{"a":NaN,"b":{"c":[1,1e400,{"d":1,"d":2}]},"e":"\\ud800"}')
    assert list(found) == ["a", "b.c[1]", "b.c[2].d", "e"]


def test_but_not_more_than_a_person_reads() -> None:
    assert len(reasons(b"{" + b",".join(b'"k%d":NaN' % n for n in range(10_000)) + b"}")) == 50


def test_ordinary_text_of_any_language_and_pairs_of_halves_pass() -> None:
    assert body('{"a":"Ä 币 😀\\n\\t","b":"\\ud83d\\ude00"}'.encode()) == {"a": "Ä 币 😀\n\t", "b": "😀"}


def test_a_body_too_large_is_not_even_looked_at() -> None:
    assert "larger than" in reasons(b" " * (SIZE_MAX + 1))[""]
    assert body(b'{"a":"' + b"x" * (SIZE_MAX - 8) + b'"}')


def test_depth_counts_brackets_but_not_those_in_texts() -> None:
    deep = b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX
    assert read(deep) == json.loads(deep)
    assert "deep" in reasons(b'{"a":' + deep + b"}")[""]
    assert body(b'{"a":"' + b'[{\\"' * 100 + b'"}')
    flat = b'{"a":[' + b",".join([b"[]"] * 100) + b"]}"
    assert len(body(flat)["a"]) == 100


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b"[" * SIZE_MAX,
        b'{"a":' * (SIZE_MAX // 5),
        b'"' + b'\\"' * (SIZE_MAX // 4) + b"[" * 40,
        b'{"a":"' + b"\\" * (SIZE_MAX // 2) + b"[" * 40,
    ],
    ids=["10 MB of lists", "10 MB of objects", "1 MiB of lists", "1 MiB of objects", "quotes", "backslashes"],
)
def test_nesting_without_end_is_refused_at_once(raw: bytes) -> None:
    assert isinstance(read(raw), tuple)
    assert quickest(partial(read, raw)) < 0.2


# ------------------------------------------------------------------------------------------------------------- hashes

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
    | st.integers(-(10**12), 10**12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcde", max_size=3), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), JSON, max_size=5)


def shuffled(value: object, rng: random.Random) -> object:
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(item, rng) for key, item in items}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(BODIES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_hash_is_of_the_content_not_of_its_order_or_spaces(content: dict, rng: random.Random) -> None:
    one = read(json.dumps(content).encode())
    other = read(json.dumps(shuffled(content, rng), indent=3, ensure_ascii=False).encode())
    assert body_hash(one) == body_hash(other)


@given(BODIES, BODIES)
@settings(max_examples=100, deadline=None)
def test_other_content_has_another_hash(one: dict, other: dict) -> None:
    same = canonical(read(json.dumps(one).encode())) == canonical(read(json.dumps(other).encode()))
    assert same == (typed(one) == typed(other))
    assert same == (body_hash(read(json.dumps(one).encode())) == body_hash(read(json.dumps(other).encode())))


def typed(value: object) -> object:
    """For comparison: 1 and true are equal to Python."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else (type(value).__name__, value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1.10}', b'{"a":1.1}', True),
        (b'{"a":100}', b'{"a":1e2}', True),
        (b'{"a":0}', b'{"a":-0.00}', True),
        (b'{"a":"\\u0041"}', b'{"a":"A"}', True),
        (b'{"a":1.1}', b'{"a":1.10000000000000000001}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
        (b'{"a":null}', b"{}", False),
        (b'{"a":1234567890123456789012345678901234567.1}', b'{"a":1234567890123456789012345678901234567.2}', False),
    ],
)
def test_numbers_are_compared_by_value_and_never_confused_with_text(one: bytes, other: bytes, same: bool) -> None:
    assert (body_hash(body(one)) == body_hash(body(other))) is same


def test_the_canonical_form_reads_back_as_the_same_body() -> None:
    content = body(b'{"b":[1.50,"x"],"a":{"d":1E+3,"c":null}}')
    assert canonical(content) == b'{"a":{"c":null,"d":1000},"b":[1.5,"x"]}'
    assert read(canonical(content)) == content


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_body_or_reasons(raw: bytes) -> None:
    found = read(raw)
    assert isinstance(found, dict) or (found and all(isinstance(reason, Refusal) for reason in found))
