"""The API from the other side: how the command line asks a running engine, and puts its answers into words."""

import httpx
import msgspec

from engine.core.money import plain
from engine.web.ports import Left, ResumeReport, StopReport
from engine.web.views import Problem

BASE = "/api/execution"  # as in app.py, which is slow to import
ASK_SECONDS = 60.0  # a stop waits for the venue to show that nothing is left


class Unreachable(Exception):
    """No engine answers there."""


class SaidNo(Exception):
    """The engine answered, with a refusal in its own words."""


def ask(host: str, port: int, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """The body of the API's answer. Raises Unreachable, SaidNo."""
    url = f"http://{host}:{port}{BASE}{path}"
    try:
        # No proxy of the environment may stand between us and our own loopback.
        answer = httpx.request(method, url, json=body, timeout=ASK_SECONDS, trust_env=False)
    except httpx.TransportError as error:
        raise Unreachable(f"no engine answers on {host}:{port} ({error})") from error
    if answer.is_error:
        raise SaidNo(_problem(answer))
    return answer.content


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
