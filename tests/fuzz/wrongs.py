"""What can be wrong with bytes: values of every JSON kind, bodies spelled in unusual ways, sound bytes damaged."""

import json
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\u202e",
    "\x00",
    "\x7f",
    "\ufeff",
    "NaN",
    "sNaN",
    "-Infinity",
    "1e400",
    "1e-400",
    "1e99999999999999999999",
    "9" * 5000,
    "0x10",
    "\uff11\uff12",
    "٣",
    "1_000",
    "1,5",
    "be +1 BTC",
    "2026-01-02T03:04:05Z",
    "2026-02-31T25:61:61+99:99",
    "9999-12-31T23:59:59-23:59",
    "BTC/USDT:USDT",
    "BTC/USD:BTC",
    "\u017fymbol",
    "ß" * 40,
    "/" * 300,
)
# As they stand in JSON, valid or not: numbers that no float or no Decimal holds, and what only Python reads.
ODD_LITERALS = (
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-1e-400",
    b"1e99999999999999999999",
    b"0." + b"0" * 60 + b"1",
    b"9" * 400,
    b"-0",
    b"-0.0e-0",
    b"01",
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\u0000"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"[" * 40 + b"]" * 40,
    b'{"a":' * 40 + b"1" + b"}" * 40,
    b"[" * 3000,
    b'{"a":1,"a":2}',
    b"",
    b"'x'",
)

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
numbers = (
    st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True)
    | st.sampled_from((0, 1, -1, 0.5, 1e-9, 10**18, 10**40, 1_767_323_045, 1_767_323_045_000))
)
leaves = st.none() | st.booleans() | numbers | texts
values: "st.SearchStrategy[Any]" = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def surrogates_escaped(value: Any) -> bytes:
    """JSON in ASCII, so that halves of characters come as escapes."""
    return json.dumps(value).encode()


@st.composite
def bodies(draw: st.DrawFn, keys: tuple[str, ...], plausible: dict[str, tuple[Any, ...]]) -> bytes:
    """An object of known and unknown keys, with plausible and other values, some keys twice, some literals foreign."""
    chosen = draw(st.lists(st.sampled_from(keys) | texts, max_size=10))
    members = []
    for key in chosen:
        good = plausible.get(key)
        if good and draw(st.integers(0, 3)):
            value = surrogates_escaped(draw(st.sampled_from(good)))
        elif draw(st.integers(0, 5)):
            value = surrogates_escaped(draw(values))
        else:
            value = draw(st.sampled_from(ODD_LITERALS))
        members.append(surrogates_escaped(key) + draw(st.sampled_from((b":", b" : ", b"\n:\t"))) + value)
    return b"{" + b",".join(members) + b"}"


@st.composite
def changed(draw: st.DrawFn, samples: tuple[dict[str, Any], ...], keys: tuple[str, ...] = ("x",)) -> bytes:
    """A sound body with a few things wrong: other types, keys gone, added, doubled, renamed, put one level down."""
    members = [(key, surrogates_escaped(value)) for key, value in draw(st.sampled_from(samples)).items()]
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.integers(0, max(0, len(members) - 1)))
        what = draw(st.sampled_from(("swap", "literal", "delete", "add", "double", "rename", "wrap")))
        if what == "add" or not members:
            members.append((draw(st.sampled_from(keys) | texts), surrogates_escaped(draw(values))))
            continue
        key, value = members[where]
        match what:
            case "swap":
                members[where] = (key, surrogates_escaped(draw(values)))
            case "literal":
                members[where] = (key, draw(st.sampled_from(ODD_LITERALS)))
            case "delete":
                del members[where]
            case "double":
                members.append((key, value))
            case "rename":
                members[where] = (draw(st.sampled_from(keys) | texts), value)
            case "wrap":
                members[where] = (key, draw(st.sampled_from((b"[%b]", b'{"a":%b}', b'"%b"'))) % value)
    return b"{" + b",".join(surrogates_escaped(key) + b":" + value for key, value in members) + b"}"


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """A few bytes flipped, cut out, put in, doubled, or the end torn off."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.sampled_from((1, 2, 8, 100)))
        match draw(st.sampled_from(("flip", "cut", "insert", "double", "tear", "swap"))):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8) | st.sampled_from(ODD_LITERALS))
            case "double":
                data[at:at] = data[at : at + length]
            case "tear":
                del data[at:]
            case "swap":
                data[at] = draw(st.sampled_from(b'0123456789-.eE"{}[],:\\\n ntf\x00\xff'))
    return bytes(data)
