"""The API from the other side: how the command line asks a running engine, and puts its answers into words."""

import ssl
from pathlib import Path

import httpx
import msgspec

from engine.core.money import plain
from engine.runtime.config import ApiSection
from engine.runtime.log import Secret
from engine.web.ports import Left, ResumeReport, StopReport
from engine.web.roles import BASE
from engine.web.views import Problem

TOKEN_ENV = "SUREFIRE_TOKEN"  # where the command line finds its token
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # every address of the machine: so we ask at the nearest
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
ASK_SECONDS = 60.0  # a stop waits for the venue to show that nothing is left


class Unreachable(Exception):
    """No engine answers there."""


class SaidNo(Exception):
    """The engine answered, with a refusal in its own words."""


def ask(
    api: ApiSection,
    method: str,
    path: str,
    body: dict[str, object] | None = None,
    token: Secret | None = None,
    by: str = "",
) -> bytes:
    """The body of the API's answer. `by`: who asks, where the body has no word for it. Raises Unreachable, SaidNo."""
    host = _ANY.get(api.host, api.host)
    place = f"[{host}]" if ":" in host else host
    headers = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
    if by:
        headers["X-Operator"] = by.encode("ascii", "replace").decode()
    try:
        # No proxy of the environment may stand between us and our own loopback.
        answer = httpx.request(
            method,
            f"{'https' if api.tls_cert else 'http'}://{place}:{api.port}{BASE}{path}",
            json=body,
            timeout=ASK_SECONDS,
            headers=headers,
            trust_env=False,
            verify=_own_certificate(api.tls_cert) if api.tls_cert else True,
        )
    except (httpx.TransportError, OSError) as error:
        raise Unreachable(f"no engine answers on {host}:{api.port} ({error})") from error
    if answer.is_error:
        raise SaidNo(_problem(answer))
    return answer.content


def _own_certificate(path: str) -> ssl.SSLContext:
    """Trusts the engine's own certificate and no other, so its names do not matter. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    text = Path(path).read_text(encoding="ascii", errors="replace")
    end = text.find(_END) + len(_END)
    context.load_verify_locations(cadata=text[max(text.find(_BEGIN), 0) : end])  # the first: those after it are signers
    return context


def _problem(answer: httpx.Response) -> str:
    """The API's own words for what is wrong, or at least its status."""
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.MsgspecError:
        return f"the engine answered with status {answer.status_code}"
    reasons = "; ".join(f"{r.field}: {r.reason}" if r.field else r.reason for r in problem.reasons)
    return f"{problem.error}: {reasons}" if reasons else problem.error


def report_lines(done: StopReport) -> list[str]:
    """What a stop or a flatten came to, for a terminal."""
    lines = [f"halted: {halt.scope}, {halt.reason} (by {halt.by})" for halt in done.halts]
    for left in done.left:
        lines += _left_lines(left)
    lines += [f"shard {shard.name}: {shard.detail}" for shard in done.shards]
    lines += [f"problem: {problem}" for problem in done.problems]
    if not done.durable:
        lines.append("the halt is in force, but would not survive a restart")
    lines.append("complete: the venue shows nothing left" if done.complete else "NOT complete: look at what is left")
    return lines


def resumed_lines(scope: str, done: ResumeReport) -> list[str]:
    """What a resume came to, for a terminal."""
    lines = [f"resumed: {scope}, {halt.kind or 'halt'} by {halt.by}: {halt.reason}" for halt in done.ended]
    lines += [f"still closed: {scope}, {why}" for why in done.remains]
    others = (halt for halt in done.halts if halt.scope != scope)
    return lines + [f"still halted: {halt.scope}, {halt.reason} (by {halt.by})" for halt in others]


def _left_lines(left: Left) -> list[str]:
    if left.unknown:
        return [f"{left.account}: NOT known, the venue could not be asked: {left.unknown}"]
    lines = [f"{left.account}/{p.symbol}: still holds {plain(p.qty)}" for p in left.positions]
    return lines + [f"{left.account}/{o.symbol}: order {o.cid} is still open" for o in left.entries]
