"""`keys`: add, list, rotate, remove what is in the vault, without ever showing a secret.

A secret is typed at a terminal or comes on standard input; never as an argument, which every user of a machine sees.
"""

import argparse
import os
import re
import sys
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path

import msgspec

from actors.commands.frame import config_of, say
from actors.real import webhooks
from engine.edges.webhook import unfit
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK, REFUSED, USAGE, Quit
from engine.runtime.config import KEY_NAME, Config, VaultSection
from engine.runtime.log import Secret
from engine.venues import vault
from engine.venues.keys import KeyProblem
from engine.venues.vault import HOOK, WORDS, Entry, Note, Unlock, look_through, open_vault, relock, renew, unlock_of


def keys(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    _right_words(arguments, config)
    go = {"add": _add, "list": _list, "rotate": _rotate, "remove": _remove}[arguments.what]
    try:
        return go(arguments, config)
    except KeyProblem as problem:
        raise Quit(REFUSED, str(problem)) from problem


def ask_passphrase(config: Config, twice: bool = False) -> None:
    """Into our own environment, where it is looked for; whoever has set it there, or a key, is not asked."""
    name = config.vault.passphrase_env
    if not config.vault.key_env and name and not os.environ.get(name) and sys.stdin.isatty():
        os.environ[name] = _typed("the vault's passphrase", twice)


def forget_passphrase(config: Config) -> None:
    """The accounts are open: no process that we start from now on has any use for it."""
    for name in (config.vault.passphrase_env, config.vault.key_env):
        os.environ.pop(name, None)


def _right_words(arguments: argparse.Namespace, config: Config) -> None:
    what, name, new = arguments.what, arguments.name, arguments.new_passphrase_env or arguments.new_key_env
    if what in ("add", "remove") and not name:
        raise Quit(USAGE, f"keys {what}: say the key's name")
    if what == "add" and not re.fullmatch(KEY_NAME, name):
        raise Quit(USAGE, f"'{name}' is no name for a key: up to 64 letters, digits, and _ . -")
    if what == "list" and name:
        raise Quit(USAGE, "keys list takes no name")
    if what == "add" and bool(arguments.account) == bool(arguments.hook):
        raise Quit(USAGE, "keys add: say whose it is, --account or --hook")
    if what == "add" and arguments.account and arguments.account not in config.accounts:
        raise Quit(USAGE, f"keys add: --account must be one of the config's: {', '.join(config.accounts)}")
    hooks = [hook.name for hook in webhooks(config)]
    if what == "add" and arguments.hook and arguments.hook not in hooks:
        raise Quit(USAGE, f"keys add: --hook must be a webhook of the config: {', '.join(hooks) or 'it has none'}")
    if what != "add" and (arguments.account or arguments.hook):
        raise Quit(USAGE, f"keys {what} takes no --account or --hook: a key stays its owner's")
    if new and (what != "rotate" or name):
        raise Quit(USAGE, "a new passphrase or key is for all: keys rotate, without a name")
    if arguments.new_passphrase_env and arguments.new_key_env:
        raise Quit(USAGE, "keys rotate: a new passphrase or a new key, not both")


def _add(arguments: argparse.Namespace, config: Config) -> int:
    path = Path(config.vault.path)
    ask_passphrase(config, twice=not path.exists())
    owner = arguments.account or HOOK + arguments.hook
    typed = _usable(owner, config)
    unlock = unlock_of(config.vault, os.environ)
    entry = vault.put(path, unlock, arguments.name, owner, typed, live_clock())
    taken = f'key_vault = ["{entry.name}"]' if arguments.hook else f'key_vault = "{entry.name}"'
    whose = f"the webhook '{arguments.hook}'" if arguments.hook else f"[accounts.{owner}]"
    told = f"{path} holds the key '{entry.name}'; {whose} takes it by {taken}"
    say(_shown(entry), told, arguments.json)
    return OK


def _list(arguments: argparse.Namespace, config: Config) -> int:
    ask_passphrase(config)
    entries = open_vault(Path(config.vault.path), unlock_of(config.vault, os.environ), "keys list").entries
    path = Path(config.vault.path)
    used = {note.name: note for note in vault.notes(path) if note.what == "decrypted"}
    rows = [{**_shown(entry), "set_ns": entry.set_ns, "used": used.get(entry.name)} for entry in entries]
    lines = (
        f"{e.name}: {_owner(e)}, revision {e.revision}, set {_day(e.set_ns)}, {_used(used.get(e.name))}"
        for e in entries
    )
    say({"keys": rows}, "\n".join(lines) or "no keys", arguments.json)
    return OK


def _rotate(arguments: argparse.Namespace, config: Config) -> int:
    path = Path(config.vault.path)
    ask_passphrase(config)
    unlock = unlock_of(config.vault, os.environ)
    entries = open_vault(path, unlock, "keys rotate").entries  # before anything new is typed for nothing
    if not arguments.name:
        count = relock(path, unlock, _new_unlock(arguments), live_clock())
        say({"rotated": count}, f"{count} key(s) are under the new one; the old one opens nothing", arguments.json)
        return OK
    entry = next((entry for entry in entries if entry.name == arguments.name), None)
    if entry is None:
        raise Quit(FAILED, f"{path} holds no key '{arguments.name}'")
    entry = renew(path, unlock, arguments.name, _usable(entry.account, config), live_clock())
    told = f"'{entry.name}' has a new secret, revision {entry.revision}, from the next start on"
    say(_shown(entry), told, arguments.json)
    return OK


def _remove(arguments: argparse.Namespace, config: Config) -> int:
    ask_passphrase(config)
    entry = vault.remove(Path(config.vault.path), unlock_of(config.vault, os.environ), arguments.name, live_clock())
    say({"removed": entry.name}, f"the key '{entry.name}' is gone; take it back at the venue, too", arguments.json)
    return OK


def _shown(entry: Entry) -> dict[str, object]:
    return {"name": entry.name, "account": entry.account, "revision": entry.revision}


def _owner(entry: Entry) -> str:
    hook = entry.account.startswith(HOOK)
    return f"webhook {entry.account.removeprefix(HOOK)}" if hook else f"account {entry.account}"


def _used(last: Note | None) -> str:
    return "never decrypted" if last is None else f"last decrypted {_day(last.at_ns)} for '{last.by}'"


def _day(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")


def _new_unlock(arguments: argparse.Namespace) -> Unlock:
    if arguments.new_key_env or arguments.new_passphrase_env:
        names = {"key_env": arguments.new_key_env or "", "passphrase_env": arguments.new_passphrase_env or ""}
        return unlock_of(VaultSection(**names), os.environ)
    if not sys.stdin.isatty():
        raise Quit(USAGE, "keys rotate: there is no terminal to ask at; say --new-passphrase-env or --new-key-env")
    return Unlock("argon2id", Secret(_typed("the vault's new passphrase", twice=True)), "the new passphrase")


def _usable(owner: str, config: Config) -> dict[str, Secret]:
    """What is typed for an owner. Raises Quit, KeyProblem."""
    typed = _typed_secrets(owner)
    if not owner.startswith(HOOK):
        section = config.accounts.get(owner)
        look_through(typed, signs=section is None or section.venue != "ccxt")
    elif list(typed) != ["secret"]:
        raise Quit(USAGE, 'a webhook has one secret and nothing else: {"secret": "..."}')
    elif why := unfit(typed["secret"]):
        raise Quit(REFUSED, f"the secret {why}")
    return typed


def _typed_secrets(owner: str) -> dict[str, Secret]:
    """From standard input as JSON, or asked for at a terminal. Raises Quit."""
    if sys.stdin.isatty() and owner.startswith(HOOK):
        typed = {"secret": _typed("the webhook's secret")}
    elif sys.stdin.isatty():
        typed = {word: _typed(f"the API {word}") for word in WORDS[:2]}
        typed |= {word: text for word in WORDS[2:] if (text := _typed(f"the API {word} (ccxt; else leave it empty)"))}
    else:
        try:
            typed = msgspec.json.decode(sys.stdin.buffer.read(1 << 16), type=dict[str, str])
        except msgspec.MsgspecError:
            raise Quit(USAGE, 'standard input is not of the form {"key": "...", "secret": "..."}') from None
    if any(word not in WORDS for word in typed):
        raise Quit(USAGE, f"standard input holds another word than {', '.join(WORDS)}")
    return {word: Secret(text.strip()) for word, text in typed.items()}


def _typed(what: str, twice: bool = False) -> str:
    text = getpass(f"{what}: ")
    if twice and getpass(f"{what}, again: ") != text:
        raise Quit(USAGE, "the two are not the same; nothing was changed")
    return text
