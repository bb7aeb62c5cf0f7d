"""A local exchange as a process of its own beside a `run` or a `demo`, and the accounts put to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

import actors
from actors.assembly import open_market
from actors.rehearsal import at_exchange, exchange_terms, keys_of
from engine.core.messages import InstrumentKind
from engine.runtime.clock import live_clock
from engine.runtime.commandline import REFUSED, Quit
from engine.runtime.config import Config

RUN = Path(actors.__file__).resolve().parent.parent / "run.py"


def at_local_exchange(
    beside: ExitStack, config: Config, market: Path | None, folder: Path, demo: bool = False
) -> tuple[Config, int]:
    """The config with its accounts at a local exchange, and that one's port; it runs until `beside` is closed.

    `market` is the config whose market it plays. The keys go into our environment, where the accounts look for them.
    """
    (folder / "terms.json").write_bytes(msgspec.json.encode(exchange_terms(config, demo)))
    ports = beside.enter_context(_exchange(market, folder))
    symbols = tuple(i.symbol for i in open_market(config.market, InstrumentKind.LINEAR, live_clock()).instruments)
    os.environ.update(keys_of(config))
    return at_exchange(config, ports, symbols, folder.absolute()), ports[config.rehearsal.venue]


@contextmanager
def _exchange(market: Path | None, folder: Path) -> Iterator[dict[str, int]]:
    """The process, with the terms that are in the folder; its ports. Raises Quit when it does not start."""
    command = [sys.executable, str(RUN), "exchange", "--port", "0", "--json", "--until-eof"]
    command += ["--terms", str(folder / "terms.json"), *(("--config", str(market)) if market else ())]
    with (folder / "exchange.log").open("wb") as log:
        # In a session of its own: an interrupt at the terminal ends us, and it only when we have come to rest.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                said = (folder / "exchange.log").read_text(encoding="utf-8", errors="replace")
                raise Quit(REFUSED, f"the local exchange did not start: {said[-500:].strip()}")
            yield json.loads(line)["ports"]
        finally:
            process.terminate()
