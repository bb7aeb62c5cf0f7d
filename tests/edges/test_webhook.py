"""Who may hand in a body by webhook: signatures, their age, secrets in bodies, addresses; and what is not kept."""

import json
from base64 import b64encode
from ipaddress import ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from engine.edges import webhook
from engine.edges.webhook import Admitted, Denied, HookTerms, Request, Spilled, admit, key_of, signature, signed, unfit
from engine.runtime.log import Secret

NOW_S = 1_767_323_045
NOW = NOW_S * 1_000_000_000
ONE, OTHER = Secret("canary-hook-one-0123456789"), Secret("canary-hook-two-0123456789")
TERMS = HookTerms(keys=(ONE,))
BODY = b'{"symbol": "BTCUSDT", "side": "buy"}'
WEAK = HookTerms(keys=(ONE,), field="secret")


def delivery(
    raw: bytes = BODY, name: str = "msg_1", at: int = NOW_S, keys: tuple[Secret, ...] = (ONE,), **headers: str
) -> Request:
    return Request(headers=signed(keys, name, at, raw) | headers, raw=raw, address="192.0.2.1")


def weak(body: Any, address: str = "203.0.113.7", terms: HookTerms = WEAK, forwarded: str = "") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return admit(Request(headers=headers, raw=raw, address=address), terms, NOW)


def kind(found: object) -> str:
    return found.kind if isinstance(found, Denied) else type(found).__name__


def test_the_signature_is_the_one_of_the_public_specification() -> None:
    """The example of the Standard Webhooks reference libraries."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    name, timestamp, raw = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    assert signature(key_of(secret), name, timestamp, raw) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signed_body_is_admitted_byte_for_byte_with_its_name() -> None:
    assert admit(delivery(), TERMS, NOW) == Admitted(BODY, "msg_1")


@pytest.mark.parametrize(
    "request_",
    [
        replace(delivery(), raw=BODY + b" "),
        replace(delivery(), raw=BODY.replace(b"buy", b"sell")),
        delivery(**{webhook.ID: "msg_2"}),
        delivery(**{webhook.TIMESTAMP: str(NOW_S + 1)}),
        delivery(**{webhook.SIGNATURE: ""}),
        delivery(**{webhook.SIGNATURE: "v1,"}),
        delivery(**{webhook.SIGNATURE: "v1"}),
        delivery(**{webhook.SIGNATURE: "v2," + delivery().headers[webhook.SIGNATURE][3:]}),
        delivery(**{webhook.SIGNATURE: "v1,\u00e9"}),
        delivery(keys=(OTHER,)),
        delivery(**{webhook.ID: ""}),
        delivery(name="a.b"),
        delivery(name="x" * 81),
        delivery(**{webhook.TIMESTAMP: "-1"}),
        delivery(**{webhook.TIMESTAMP: "\u0661"}),
        delivery(**{webhook.TIMESTAMP: "9" * 400}),
        Request(headers={}, raw=BODY, address=""),
        delivery(**{webhook.SIGNATURE: " ".join(["v1,AAAA"] * 8 + [delivery().headers[webhook.SIGNATURE]])}),
    ],
)
def test_what_is_not_signed_so_is_not_let_in(request_: Request) -> None:
    found = admit(request_, TERMS, NOW)
    assert kind(found) == "signature"
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("late", "let_in"), [(0, True), (60, True), (-60, True), (61, False), (-61, False), (86_400, False)]
)
def test_a_signature_is_good_for_the_tolerance_only_in_both_directions(late: int, let_in: bool) -> None:
    found = admit(delivery(at=NOW_S - late), TERMS, NOW)
    assert kind(found) == ("Admitted" if let_in else "time")
    if isinstance(found, Denied):
        assert f"{abs(late)} s" in found.why and "60 s" in found.why


def test_of_the_time_a_stranger_hears_nothing() -> None:
    assert kind(admit(delivery(at=1, keys=(OTHER,)), TERMS, NOW)) == "signature"


def test_while_secrets_are_exchanged_either_side_may_be_first() -> None:
    both = replace(TERMS, keys=(ONE, OTHER))
    assert all(kind(admit(delivery(keys=(s,)), both, NOW)) == "Admitted" for s in (ONE, OTHER))
    twice = delivery(keys=(OTHER, ONE))
    assert twice.headers[webhook.SIGNATURE].count("v1,") == 2
    assert kind(admit(twice, TERMS, NOW)) == "Admitted"


def test_a_signed_body_that_holds_the_secret_itself_is_not_kept() -> None:
    found = admit(delivery(raw=b'{"note": "canary-hook-one-0123456789"}'), TERMS, NOW)
    assert isinstance(found, Spilled) and "canary" not in repr(found)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("short", "20 ASCII"),
        ("with a blank 0123456789", "20 ASCII"),
        ("\u00e9" * 30, "20 ASCII"),
        ("whsec_not/base64!!!!!!!!", "not base64"),
        ("whsec_" + b64encode(b"x" * 15).decode(), "less than 16 bytes"),
        ("whsec_" + b64encode(b"x" * 16).decode(), ""),
        ("0123456789" * 2, ""),
    ],
)
def test_what_is_no_secret_is_said_without_it(text: str, why: str) -> None:
    told = unfit(Secret(text))
    assert (why in told) if why else (told == "")
    assert text not in told


# ------------------------------------------------------------------------------------------ senders that cannot sign


def test_the_secret_in_the_body_is_taken_out_before_anybody_sees_it() -> None:
    found = weak({"secret": ONE.reveal(), "id": "c-1", "qty": 0.10})
    assert found == Admitted(b'{"id":"c-1","qty":0.1}')


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"secret": ""},
        {"secret": None},
        {"secret": "canary-hook-one-012345678"},
        {"secret": "canary-hook-one-0123456789 "},
        {"secret": ["canary-hook-one-0123456789"]},
        {"Secret": "canary-hook-one-0123456789"},
        {"data": {"secret": "canary-hook-one-0123456789"}},
        b"",
        b'["canary-hook-one-0123456789"]',
        b'{"secret": "canary-hook-one-0123456789"',
        b'{"secret": "x", "secret": "y"}',
        b"\xff",
    ],
)
def test_without_the_secret_in_its_place_a_body_is_not_let_in_and_not_kept(body: Any) -> None:
    found = weak(body)
    assert kind(found) == "secret"
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    "more",
    [
        {"note": "my canary-hook-one-0123456789!"},
        {"canary-hook-one-0123456789": 1},
        {"a": [{"b": ["canary-hook-one-0123456789"]}]},
    ],
)
def test_a_body_that_holds_the_secret_twice_is_not_kept(more: dict[str, Any]) -> None:
    found = weak({"secret": ONE.reveal(), **more})
    assert isinstance(found, Spilled) and "canary" not in repr(found)


def test_the_secret_is_known_however_it_is_spelled_and_what_is_wrong_beside_it_is_told() -> None:
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in ONE.reveal())
    found = weak(f'{{"secret": "{spelled}", "qty": NaN, "id": "c-1"}}'.encode())
    assert found == Admitted(b'{"id":"c-1","qty":null}', flaw="'qty' is not a finite number: NaN")


def test_another_field_may_hold_the_secret() -> None:
    terms = replace(WEAK, field="passphrase")
    assert kind(weak({"passphrase": ONE.reveal(), "id": "1"}, terms=terms)) == "Admitted"
    assert kind(weak({"secret": ONE.reveal(), "id": "1"}, terms=terms)) == "secret"


CHART = replace(WEAK, addresses=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")))
BEHIND = replace(CHART, proxies=(ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize(
    ("terms", "address", "forwarded", "let_in"),
    [
        (CHART, "203.0.113.7", "", True),
        (CHART, "::ffff:203.0.113.7", "", True),
        (CHART, "2001:db8::1", "", True),
        (CHART, "203.0.114.7", "", False),
        (CHART, "", "", False),
        (CHART, "not an address", "", False),
        (CHART, "10.0.0.1", "203.0.113.7", False),  # nobody's word is taken
        (CHART, "203.0.113.7", "192.0.2.1", True),
        (BEHIND, "10.0.0.1", "203.0.113.7", True),
        (BEHIND, "10.0.0.1", "203.0.113.7, 10.1.1.1", True),
        (BEHIND, "10.0.0.1", "203.0.113.7, 192.0.2.1", False),  # what stands before a stranger's hop is his word
        (BEHIND, "10.0.0.1", "203.0.113.7, nonsense", False),
        (BEHIND, "10.0.0.1", "", False),
        (BEHIND, "192.0.2.1", "203.0.113.7", False),
    ],
)
def test_only_named_networks_may_send_and_only_named_proxies_are_believed(
    terms: HookTerms, address: str, forwarded: str, let_in: bool
) -> None:
    found = weak({"secret": ONE.reveal(), "id": "1"}, address, terms, forwarded)
    assert kind(found) == ("Admitted" if let_in else "address")


def test_a_signed_hook_may_be_bound_to_addresses_too() -> None:
    terms = replace(TERMS, addresses=(ip_network("203.0.113.0/24"),))
    assert kind(admit(delivery(), terms, NOW)) == "address"
    assert kind(admit(replace(delivery(), address="203.0.113.9"), terms, NOW)) == "Admitted"
