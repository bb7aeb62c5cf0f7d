"""Around every command: its config, and its words to a person.

Little is imported here: a `stop` must work when half of the system does not.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser

import msgspec
from msgspec.structs import replace

from engine.runtime.commandline import USAGE, Quit
from engine.runtime.config import Config, ConfigError, default_config, load


def config_of(arguments: argparse.Namespace) -> Config:
    """The file's, or without one a paper account's, with what the arguments say above it. Raises Quit."""
    data_dir, port = arguments.data_dir, getattr(arguments, "port", None)
    name = getattr(arguments, "engine_name", None)
    with usable_config():
        config = load(arguments.config, data_dir, port) if arguments.config else default_config(data_dir, port)
    return config if name is None else replace(config, engine=replace(config.engine, name=name))


@contextmanager
def usable_config() -> Iterator[None]:
    """Raises Quit with all that is wrong in a config, a line each."""
    try:
        yield
    except ConfigError as error:
        raise Quit(USAGE, "the config cannot be used:\n  " + "\n  ".join(error.problems)) from error


def say(as_json: object, text: str, json_wanted: bool) -> None:
    print(msgspec.json.encode(as_json).decode() if json_wanted else text, flush=True)


def me() -> str:
    """Who gives the command, for the audit log."""
    try:
        return f"{getuser()} (command line)"
    except (OSError, KeyError):  # a user without a name, as in a container
        return "command line"
