"""Webhooks and a risk service's answers as strangers write them: never an exception, never in without the secret."""

import json
import random
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.ess import Said, Unanswered
from engine.edges.ess import AskTerms, understood
from engine.edges.webhook import Admitted, Denied, HookTerms, Request, Spilled, admit, signed
from engine.runtime.log import Secret
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import bodies, changed, damaged, texts

SECRET = Secret("fuzzed-secret-0123456789")
NOW_S = 1_767_323_045
NETWORKS = (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))
SIGNED = HookTerms(keys=(SECRET,))
WEAK = HookTerms(keys=(SECRET,), field="secret", addresses=NETWORKS, proxies=(ip_network("10.0.0.0/8"),))
BODY = b'{"symbol": "BTCUSDT"}'
SOUND = signed((SECRET,), "msg_1", NOW_S, BODY)
HEADERS = st.dictionaries(st.sampled_from([*SOUND, "x-forwarded-for"]), texts | st.sampled_from(list(SOUND.values())))
CHART = {"secret": SECRET.reveal(), "id": "c-1", "symbol": "BTCUSDT", "note": "x"}
OUTCOMES = Admitted | Denied | Spilled


@given(HEADERS, st.binary(max_size=200) | st.just(BODY), texts)
@fuzzed(300)
def test_nobody_is_let_in_with_headers_that_he_made_up(headers: dict[str, str], raw: bytes, address: str) -> None:
    found = admit(Request(headers=headers, raw=raw, address=address), SIGNED, NOW_S * 10**9)
    assert isinstance(found, OUTCOMES)
    sound = all(headers.get(name) == value for name, value in SOUND.items()) and raw == BODY
    assert isinstance(found, Admitted) == sound


@given(st.randoms(use_true_random=False), st.sampled_from(["id", "body", *SOUND]))
@fuzzed(300)
def test_one_wrong_byte_anywhere_is_one_too_many(chance: random.Random, where: str) -> None:
    headers, raw = dict(SOUND), BODY
    if where in SOUND:
        text = headers[where]
        place = chance.randrange(len(text))
        headers[where] = text[:place] + chance.choice("ax0=,v1") + text[place + 1 :]
    else:
        place = chance.randrange(len(raw))
        raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + 1 :]
    found = admit(Request(headers=headers, raw=raw, address=""), SIGNED, NOW_S * 10**9)
    assert isinstance(found, Admitted) == (headers == SOUND and raw == BODY)


@given(damaged(json.dumps(CHART).encode()) | bodies(("secret", "id", "qty"), {"secret": (SECRET.reveal(),)}), texts)
@fuzzed(300)
def test_a_body_with_a_secret_is_read_without_a_fault_and_never_kept_with_it(raw: bytes, forwarded: str) -> None:
    headers = {"x-forwarded-for": forwarded}
    for address in ("203.0.113.1", "10.0.0.1", forwarded):
        found = admit(Request(headers=headers, raw=raw, address=address), WEAK, NOW_S * 10**9)
        assert isinstance(found, OUTCOMES)
        assert SECRET.reveal() not in repr(found)


@given(bodies(("level", "status", "tripped", "data", "reason"), {"level": ("CRITICAL", "NORMAL"), "tripped": (True,)}))
@fuzzed(300)
def test_whatever_a_risk_service_answers_is_a_word_or_no_answer(raw: bytes) -> None:
    terms = AskTerms(url="", timeout_seconds=1, blocks=("CRITICAL",), passes=("NORMAL",))
    for each in (terms, replace(terms, field="data.level")):
        found = understood(raw, each)
        assert isinstance(found, Said | Unanswered)
        assert not isinstance(found, Said) or found.word in ("CRITICAL", "NORMAL", "TRIPPED", "CLEAR")


@given(changed((CHART,), ("note", "secret")))
@fuzzed(300)
def test_what_is_admitted_is_a_body_without_its_secret(raw: bytes) -> None:
    found = admit(Request(headers={}, raw=raw, address="203.0.113.1"), WEAK, NOW_S * 10**9)
    if isinstance(found, Admitted):
        assert "secret" not in json.loads(found.raw) and SECRET.reveal().encode() not in found.raw
