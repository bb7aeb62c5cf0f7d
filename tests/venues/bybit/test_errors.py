"""Every code of Bybit's error pages has its class, and no other; what is not known is unclear."""

import pytest

from engine.core.messages import Acked, Rejection, Silence
from engine.venues.bybit.errors import CODES, Class, answer_to_change, answer_to_place, answer_to_status, meaning

# Facts, as data: the codes of the V5 list by what they mean for a request that changes something.
FACTS = {
    Class.UNCLEAR: (
        "-1 429 10000 10014 10016 10019 20006 40004 500000 110072 110079 110035 170001 170234 170007 170032 "
        "170035 170141 170146 170147 170310 170149 170150 170311 148019 148021 148026 148034 148035 148036 "
        "148041 3777043 34022038 131214"
    ),
    Class.REJECT: (
        "10001 10404 30208 30209 30228 181017 110003 110004 110045 110005 110006 110007 110012 110044 110009 "
        "110011 110013 110014 110015 110017 110018 110019 110032 110020 110021 110022 110023 110042 110024 "
        "110028 110029 110036 110038 110039 110046 110040 110057 110058 110059 110060 110061 110063 110074 "
        "110064 110085 110086 110087 110089 110090 110092 110093 110094 110095 110098 110099 110103 110108 "
        "110109 110118 110119 110120 110121 110131 110135 110136 110137 170033 170131 170034 170207 170036 "
        "170037 170344 170346 170105 170115 170116 170117 170121 170130 170124 170136 170137 170140 170148 "
        "170341 170381 170382 170132 170133 170134 170192 170193 170194 170371 170372 170151 170157 170159 "
        "170206 170217 170195 170196 170197 170198 170199 170200 170228 170229 170201 170202 170203 170204 "
        "170218 170227 170312 170313 170210 170810 182101 182102 182103 182107 182108 182110 182111 182112 "
        "148009 148012 148037 148029"
    ),
    Class.RETRY: ("10002 100016 34022035"),
    Class.HALT: (
        "10003 10004 10005 10007 10008 10009 10010 10017 10018 10024 10027 10028 100028 10029 -2015 33004 "
        "3100197 110066 110069 110080 110123 110125 110124 110132 170031 170209 170219 170348 170215 170216 "
        "170220 170223 170230 170226 182100 148031 34022048 34022052"
    ),
    Class.ASK: ("10006 10403 10429 20003 170005 170222"),
    Class.DONE: ("20001 34040 110025 110026 110027 110043"),
    Class.GONE: ("110001 110008 170139 170142 170190 170143 170213 170144 170145 170191 170212 110010"),
}
LISTED = {code: kind for kind, codes in FACTS.items() for code in codes.split()}


def test_the_table_is_complete_and_holds_nothing_else():
    assert {code: found.kind for code, found in CODES.items()} == LISTED


@pytest.mark.parametrize("code", sorted(LISTED))
def test_what_each_code_says_of_a_new_order(code: str):
    answer = answer_to_place(int(code), "text", "", 0)
    match LISTED[code]:
        case Class.REJECT:
            assert isinstance(answer, Rejection) and answer.kind in ("invalid", "insufficient", "triggered")
        case Class.RETRY:
            assert isinstance(answer, Rejection) and answer.kind == "unavailable"
        case Class.ASK:
            assert isinstance(answer, Rejection) and answer.kind == "rate_limited"
        case Class.HALT:
            assert isinstance(answer, Rejection) and answer.kind == "auth"
        case Class.UNCLEAR if meaning(int(code)).word == "duplicate":
            assert isinstance(answer, Rejection) and answer.kind == "duplicate"
        case _:
            assert isinstance(answer, Silence)


@pytest.mark.parametrize("code", sorted(LISTED))
def test_no_code_ever_says_that_a_cancel_has_ended_the_order(code: str):
    assert not isinstance(answer_to_change(int(code), "text", "7d0c", 0), Acked)


@pytest.mark.parametrize("code", [12345, 110999, 170999, -7, 99999999])
def test_a_code_that_nobody_knows_is_unclear(code: int):
    assert answer_to_place(code, "new", "7d0c", 0) == Silence(f"{code}: new")
    assert answer_to_change(code, "new", "7d0c", 0) == Silence(f"{code}: new")


def test_an_acceptance_without_an_order_id_is_unclear():
    assert answer_to_place(0, "OK", "7d0c", 5) == Acked("7d0c", 5)
    assert isinstance(answer_to_place(0, "OK", "", 5), Silence)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, None),
        (400, "invalid"),
        (401, "auth"),
        (403, "unavailable"),
        (404, "auth"),
        (429, "rate_limited"),
        *((status, "silence") for status in (201, 204, 301, 302, 408, 418, 499, 500, 502, 503, 504, 520)),
    ],
)
def test_what_an_http_status_says(status: int, said: str | None):
    answer = answer_to_status(status)
    shown = "silence" if isinstance(answer, Silence) else answer.kind if isinstance(answer, Rejection) else None
    assert shown == said
