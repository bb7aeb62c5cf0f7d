"""`stop`, `flatten`, `resume`: what a person asks of the running engine, over its API."""

import argparse
import os

import msgspec

from actors.commands.frame import config_of, me
from engine.runtime.commandline import FAILED, OK, UNREACHABLE, Quit
from engine.runtime.config import Config
from engine.runtime.log import Secret
from engine.web.asking import TOKEN_ENV, SaidNo, Unreachable, ask, report_lines, resumed_lines
from engine.web.ports import ResumeReport, StopReport


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


def asked(config: Config, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """A request to the running engine's API. Raises Quit when there is none, or when it says no."""
    token = os.environ.get(TOKEN_ENV, "")
    try:
        return ask(config.api, method, path, body, Secret(token) if token else None)
    except Unreachable as error:
        raise Quit(UNREACHABLE, str(error)) from error
    except SaidNo as error:
        raise Quit(FAILED, str(error)) from error


def _tell_report(answer: bytes, as_json: bool) -> int:
    done = msgspec.json.decode(answer, type=StopReport)
    print(answer.decode() if as_json else "\n".join(report_lines(done)))
    return OK if done.complete else FAILED
