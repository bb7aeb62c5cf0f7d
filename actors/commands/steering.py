"""`stop`, `flatten`, `resume`, `limits`: what a person asks of the running engine, over its API."""

import argparse
import os
import re
from decimal import Decimal
from urllib.parse import quote

import msgspec

from actors.commands.frame import config_of, me
from engine.core.messages import Limits
from engine.core.money import plain
from engine.runtime.commandline import FAILED, OK, UNREACHABLE, USAGE, Quit
from engine.runtime.config import Config
from engine.runtime.log import Secret
from engine.web.asking import TOKEN_ENV, SaidNo, Unreachable, ask, report_lines, resumed_lines
from engine.web.ports import ResumeReport, StopReport
from engine.web.views import LimitsInForce


def stop(arguments: argparse.Namespace) -> int:
    body = {"by": me(), "reason": arguments.reason, "flatten": not arguments.keep_positions}
    return _tell_report(asked(config_of(arguments), "POST", "/stop", body), arguments.json)


def flatten(arguments: argparse.Namespace) -> int:
    body = {"by": me(), "reason": arguments.reason, "account": arguments.account, "symbol": arguments.symbol}
    return _tell_report(asked(config_of(arguments), "POST", "/flatten", body), arguments.json)


def resume(arguments: argparse.Namespace) -> int:
    body = {"by": me(), "scope": arguments.scope, "note": arguments.note, "kind": arguments.kind}
    answer = asked(config_of(arguments), "POST", "/resume", body)
    done = msgspec.json.decode(answer, type=ResumeReport)
    print(answer.decode() if arguments.json else "\n".join(resumed_lines(arguments.scope, done)))
    return OK


def limits(arguments: argparse.Namespace) -> int:
    """Show them; with changes, change some of one account's."""
    config, account = config_of(arguments), arguments.account
    if arguments.changes:
        body = dict(map(_change, arguments.changes))
        answer = asked(config, "PATCH", f"/limits/{quote(account, safe='')}", body)
        rows = [msgspec.json.decode(answer, type=LimitsInForce)]
    else:
        answer = asked(config, "GET", "/limits")
        rows = [row for row in msgspec.json.decode(answer, type=_Shown).limits if account in (None, row.account)]
        if not rows:
            raise Quit(FAILED, f"there is no account {account}" if account else "no account has limits")
    if arguments.json:
        print(answer.decode())
        return OK
    for row in rows:
        names = [text.partition("=")[0] for text in arguments.changes] or Limits.__struct_fields__
        print("\n".join([f"{row.account}:", *(f"  {name} = {_said(getattr(row.limits, name))}" for name in names)]))
    return OK


class _Shown(msgspec.Struct):
    """As GET /limits has it, so far as it is needed here."""

    limits: tuple[LimitsInForce, ...]


def _change(text: str) -> tuple[str, object]:
    """NAME=VALUE as the API wants it; what the value must be, the engine says. Raises Quit."""
    name, equals, value = text.partition("=")
    if not equals:
        raise Quit(USAGE, f"'{text}' is no change: write it as NAME=VALUE, such as positions_max=2")
    kind = {field.name: field.type for field in msgspec.structs.fields(Limits)}.get(name)
    if kind is bool and value in ("true", "false"):
        return name, value == "true"
    if kind is int and re.fullmatch("[0-9]{1,9}", value):
        return name, int(value)
    if name == "symbols":
        return name, [symbol for symbol in value.split(",") if symbol]
    return name, value


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "all"
    return plain(value) if isinstance(value, Decimal) else str(value).lower()


def asked(config: Config, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """A request to the running engine's API. Raises Quit when there is none, or when it says no."""
    token = os.environ.get(TOKEN_ENV, "")
    try:
        return ask(config.api, method, path, body, Secret(token) if token else None, me())
    except Unreachable as error:
        raise Quit(UNREACHABLE, str(error)) from error
    except SaidNo as error:
        raise Quit(FAILED, str(error)) from error


def _tell_report(answer: bytes, as_json: bool) -> int:
    done = msgspec.json.decode(answer, type=StopReport)
    print(answer.decode() if as_json else "\n".join(report_lines(done)))
    return OK if done.complete else FAILED
