"""The command line's words: sub-commands, arguments, help that teaches, and exit codes. Knows nothing of the engine."""

import argparse
from pathlib import Path
from typing import Any

OK = 0
FAILED = 1  # a check failed, the books do not balance, something was found or is left
USAGE = 2  # wrong arguments or config
UNREACHABLE = 3
REFUSED = 4  # the engine refused to start
INTERRUPTED = 130

EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    a check failed, the books do not balance, or something is left to look at
  2    wrong arguments or config; the message says what and in which line
  3    the running engine (or venue) cannot be reached
  4    refused to start, or to read on (journal locked, full, corrupt, newer or not there; port taken)
  130  interrupted
"""


class Quit(Exception):
    """Ends a sub-command with a sentence for a person and an exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; `command` in what it parses is the sub-command's name."""
    whole = argparse.ArgumentParser(
        prog="surefire",
        description="Trade execution engine: decisions in, orders out, exactly once.",
        epilog="Start with `demo`, which needs nothing and ends by itself; then `run`, and send it a signal.\n\n"
        + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_running(commands)
    _add_looking(commands)
    _add_keeping(commands)
    _add_steering(commands)
    _add(commands, "simulate", "run worlds drawn from seeds and check the promises (needs a checkout)", "")
    return whole


def _add_running(commands: Any) -> None:
    run = _add(
        commands,
        "run",
        "run the engine until it is told to stop",
        """\
  surefire run                             a paper account on a synthetic market, API on 127.0.0.1:8002
  surefire run --config surefire.toml      accounts, limits, sources and sinks of your own
  surefire run --data-dir /srv/surefire    keep the journal and the events there

  curl -X POST http://127.0.0.1:8002/api/execution/order -H 'content-type: application/json' \\
       -d '{"signal_id": "s1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "500"}'

signals to the process:
  TERM, INT  drain: sources stop, calls end, the outbox empties, the journal closes; a second one ends at once
  HUP        read the limits of the config file again
  USR1       write the inner state to the log""",
    )
    _add_config(run)
    run.add_argument("--port", type=_port, metavar="N", help="port of the API (0: any free one)")
    run.add_argument(
        "--name", dest="engine_name", metavar="NAME", help="of this engine, where several share one config ([[shards]])"
    )
    demo = _add(
        commands,
        "demo",
        "play a tape through the same engine, faster than real time, and show what came of it",
        """\
  surefire demo                                      a synthetic market and signals drawn from seed 1
  surefire demo --seed 7 --json                      another one, the result as JSON
  surefire demo --tape market.gz                     a recording (Binance combined streams, each line with a time)
  surefire demo --tape market.gz --signals s.ndjson  with signals of your own, one JSON object per line
  surefire demo --venue bybit                        by Bybit's protocol, at a local exchange that it starts itself
  surefire demo --venue binance-usdm --faults        ... which loses answers, drops streams, swaps messages
  surefire demo --config surefire.toml               ... where the file says so: [rehearsal] venue = "bybit"

Exits with 0 only if the books balance with the venue.""",
    )
    demo.add_argument("--config", type=Path, metavar="FILE", help="a TOML file, of which [rehearsal] counts")
    demo.add_argument(
        "--venue",
        choices=("paper", "bybit", "binance-spot", "binance-usdm"),
        help="paper (default), or a face of the local exchange, in real time and by the venue's own protocol",
    )
    demo.add_argument("--faults", action="store_true", default=None, help="the local exchange misbehaves meanwhile")
    demo.add_argument(
        "--seconds", type=float, default=40.0, metavar="N", help="of real time at the local exchange (default 40)"
    )
    demo.add_argument("--tape", type=Path, metavar="FILE", help="a recording to replay instead of a synthetic market")
    demo.add_argument(
        "--signals", type=Path, metavar="FILE", help="signals to send, NDJSON (default: drawn from --seed)"
    )
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="draws market, signals, latencies (default 1)")
    venue = _add(
        commands,
        "venue",
        'run the paper venue as a process of its own, for accounts with venue = "link"',
        """\
  surefire venue --port 9100                         its first line says where it listens
  surefire venue --port 9100 --store venue.ndjson    it remembers its orders and balances when started again""",
    )
    _add_config(venue)
    venue.add_argument("--port", type=_port, default=0, metavar="N", help="where to listen (default: any free port)")
    venue.add_argument("--store", type=Path, metavar="FILE", help="keep the venue's own truth in this file")
    venue.add_argument("--account", default="main", metavar="NAME", help="take the paper terms of this account")
    _add_exchange(commands)


def _add_exchange(commands: Any) -> None:
    exchange = _add(
        commands,
        "exchange",
        "run a local exchange that speaks Bybit V5 and Binance to real clients, or give a running one orders",
        """\
  surefire exchange --port 9200                      the first line says which face listens where, and the keys
  surefire exchange --port 9200 --tape market.gz     the market is a recording; --tape still: it moves by hand
  surefire exchange --port 9200 --terms terms.json   accounts, keys, balances and memory of your own

and while it runs, at the port of any of its faces:
  surefire exchange fault lose_reply on=order.create times=2
  surefire exchange fault refuse on=order.place code=-1007 status=503 text='Timeout waiting for response'
  surefire exchange do liquidate face=bybit symbol=BTCUSDT
  surefire exchange do transfer face=bybit asset=USDT amount=-500
  surefire exchange do drop scope=private  (stall, mangle, lag, ban, restart, skew, hold, funding, trade, book)
  surefire exchange truth                            all orders, executions, balances, positions
  surefire exchange state | clear                    what it is doing; forget the faults that are still to come

faults: lose_request lose_reply hang delay delay_reply refuse refuse_done garbage reject_later
  (on: an operation or its beginning, face, times: 0 for ever, skip, ms, code, text, status)""",
    )
    _add_config(exchange)
    exchange.add_argument(
        "what", nargs="?", default="serve", choices=("serve", "fault", "do", "truth", "state", "clear")
    )
    exchange.add_argument("words", nargs="*", metavar="WORD", help="its name, then key=value")
    exchange.add_argument("--port", type=_port, default=9200, metavar="N", help="of the first face; 0: any free ones")
    exchange.add_argument("--host", default="127.0.0.1", help="where to listen, or to find it (default 127.0.0.1)")
    exchange.add_argument("--tape", metavar="FILE", help="a recording, or 'still' (default: what the config says)")
    exchange.add_argument("--until-eof", action="store_true", help="end when standard input does, as well")
    exchange.add_argument("--terms", type=Path, metavar="FILE", help="JSON: keys, balances, leverage, memory, limits")


def _add_looking(commands: Any) -> None:
    check = _add(
        commands,
        "check",
        "look at config, clock, disk, journal, market and venues, and trade nothing",
        "  surefire check --config surefire.toml\n  surefire check --json | jq '.findings[] | select(.ok | not)'",
    )
    _add_config(check)
    explain = _add(
        commands,
        "explain",
        "tell everything about one signal: what came, which rule said what, every order and step",
        "  surefire explain s1\n\nAsks the running engine; reads the journal when none runs.",
    )
    _add_config(explain)
    _add_api_port(explain)
    explain.add_argument("signal_id", metavar="SIGNAL_ID")
    audit = _add(
        commands,
        "audit",
        "verify the journal, its chain of hashes and its invariants; or show who did what",
        "  surefire audit verify\n  surefire audit verify --archives /mnt/cold/surefire\n  surefire audit log",
    )
    _add_config(audit)
    audit.add_argument(
        "--archives", type=Path, metavar="DIR", help="where the archives are now (default: where they are made)"
    )
    audit.add_argument("--last", type=_lines, default=50, metavar="N", help="log: how many lines (default 50)")
    audit.add_argument(
        "what",
        choices=("verify", "log"),
        help="verify: read the whole chain and check everything; log: starts, stops, halts, limits, controls, keys",
    )


def _add_keeping(commands: Any) -> None:
    journal = _add(
        commands,
        "journal",
        "keep the journal small: move what is old to archives, delete archives that are old enough",
        """\
  surefire journal archive --dry-run                 what would go, and how much of it; reads only
  surefire journal archive --keep-days 90            older facts, and signals, orders, fills and told events that had
                                                     ended by then, go to a file beside the journal, or
                                                     in data_dir for one on PostgreSQL
  surefire journal retain --keep-days 2555           delete archives all of which is older
  surefire audit verify                              reads archives and journal as one chain

No engine may run on the journal meanwhile. A run that is cut off, by kill -9 or a power failure, loses nothing: say it
again. What is open stays, however old, and so do positions, trades, limits, halts and the audit log. The id of every
signal stays for ever, with its outcome: one that comes again gets that answer, and is not executed again. Names of
signed webhook deliveries are forgotten by archive: one of that age is refused by its timestamp.""",
    )
    _add_config(journal)
    journal.add_argument("what", choices=("archive", "retain"), help="archive: move; retain: delete archives")
    journal.add_argument("--keep-days", type=_days, metavar="N", help="how much stays (archive: 30; retain: say it)")
    journal.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    keys = _add(
        commands,
        "keys",
        "keep API keys encrypted: add, list, rotate, remove",
        """\
  surefire keys add desk --account main              asks for key and secret without showing them
  surefire keys add desk --account main < key.json   {"key": "...", "secret": "..."}, and password, uid for ccxt
  surefire keys add desk-hook --hook desk            the secret of a webhook
  surefire keys list                                 names, accounts, revisions; never a secret
  surefire keys rotate desk                          a new key and secret for one
  surefire keys rotate                               a new passphrase for all; asked for, or from a variable:
  surefire keys rotate --new-passphrase-env NEW      ... or --new-key-env, a key of 32 bytes in hex or base64
  surefire keys remove desk

The passphrase is in SUREFIRE_VAULT_PASSPHRASE, or in the variable that [vault] passphrase_env names; else it is asked
for. An account of the config takes its key by its name: key_vault = "desk"; a webhook, which may have several:
key_vault = ["desk-hook"]. A running engine keeps the keys that it
has: a rotation is for the next start.""",
    )
    _add_config(keys)
    keys.add_argument("what", choices=("add", "list", "rotate", "remove"))
    keys.add_argument("name", nargs="?", default="", metavar="NAME", help="of the key, for the config's key_vault")
    keys.add_argument("--account", metavar="ACCOUNT", help="add: the only account that may use it")
    keys.add_argument("--hook", metavar="NAME", help="add: in its place the only webhook that may, in or out")
    keys.add_argument("--new-passphrase-env", metavar="NAME", help="rotate: the variable with the new passphrase")
    keys.add_argument("--new-key-env", metavar="NAME", help="rotate: the variable with the new key of 32 bytes")


def _add_steering(commands: Any) -> None:
    stop = _add(
        commands,
        "stop",
        "no more entries; cancel, flatten, ask the venue, and say what is left",
        "  surefire stop --reason 'news at 14:30'\n  surefire stop --keep-positions",
    )
    stop.add_argument("--keep-positions", action="store_true", help="leave positions and their stops as they are")
    stop.add_argument("--reason", default="asked for on the command line", metavar="TEXT", help="for the audit log")
    resume = _add(
        commands,
        "resume",
        "end halts of a scope, one kind at a time, so that entries are allowed again",
        "  surefire resume\n  surefire resume --scope symbol/main/BTCUSDT --note 'checked by hand'\n"
        "  surefire resume --scope account/main --kind loss --note 'seen'",
    )
    resume.add_argument("--scope", default="engine", help="engine (default), venue/V, account/A or symbol/A/S")
    resume.add_argument(
        "--kind",
        choices=("stop", "fault", "loss", "ess"),
        help="of several halts of one scope, those of a person, of the engine itself, for losses, or of an emergency"
        " event; default: the first that stands there, in this order, and never ess",
    )
    resume.add_argument("--note", default="", metavar="TEXT", help="for the audit log")
    flatten = _add(
        commands,
        "flatten",
        "cancel entries and close positions, without halting",
        "  surefire flatten\n  surefire flatten --account main --symbol BTCUSDT",
    )
    flatten.add_argument("--account", metavar="NAME", help="only this account")
    flatten.add_argument("--symbol", metavar="SYMBOL", help="only this symbol")
    flatten.add_argument("--reason", default="asked for on the command line", metavar="TEXT", help="for the audit log")
    limits = _add(
        commands,
        "limits",
        "show an account's limits, or change some; in force with the next signal, and after a restart",
        "  surefire limits\n  surefire limits main\n  surefire limits main positions_max=2 symbols=BTCUSDT,ETHUSDT",
    )
    limits.add_argument("account", nargs="?", metavar="ACCOUNT", help="default: all, to look at")
    limits.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="what is not named stays as it is")
    _add_clear(commands)
    for command in (stop, resume, flatten, limits):
        _add_config(command)
        _add_api_port(command)


def _add_clear(commands: Any) -> None:
    clear = _add(
        commands,
        "clear",
        "without an engine: cancel all that stands at an account's venue, stops and the orders of others included",
        "  surefire clear --config surefire.toml --account main\n"
        "  surefire clear --config surefire.toml --symbol BTCUSDT --yes",
    )
    clear.add_argument("--account", metavar="NAME", help="which, where there are several")
    clear.add_argument("--symbol", metavar="SYMBOL", help="only this symbol")
    clear.add_argument("--yes", action="store_true", help="do not ask; an engine that runs puts its stops back")
    _add_config(clear)


def _add(commands: Any, name: str, what: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=name)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; without one, a paper account")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of journal and events (default ./var)")


def _add_api_port(parser: argparse.ArgumentParser) -> None:
    told = "port of the engine's API (default 8002); where that wants a token, SUREFIRE_TOKEN holds it"
    parser.add_argument("--port", type=_port, metavar="N", help=told)


def _days(text: str) -> int:
    return _whole(text, 1, 1_000_000, "days")


def _lines(text: str) -> int:
    return _whole(text, 1, 1_000_000, "a number of lines")


def _port(text: str) -> int:
    return _whole(text, 0, 65535, "a port")


def _whole(text: str, low: int, high: int, what: str) -> int:
    if not (text.isdecimal() and len(text) <= 7 and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}: a whole number from {low} to {high}")
    return int(text)
