"""Keys from the vault, in a real run at the local exchange: they trade, and nothing of them is anywhere to be read."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from engine.core.messages import KeyNoted
from engine.runtime.journal.sqlite import open_reader
from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import RealSite
from tests.process.site import ROOT

KEY = "canary-key-Zq81xW"
SECRET = "canary/secret+hR5tY0pL=="  # with what URLs and base64 write in another way
PHRASE = "canary phrase nobody would guess 93"
PATHS = (
    *("/", "/health", "/metrics", "/openapi.json"),
    *(f"/api/execution/{name}" for name in ("orders", "signals", "positions", "fills", "halts", "limits", "audit")),
)


class Tap:
    """A way to a port on which everything that the engine sends is kept, with the masks of WebSocket taken off."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._said: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._accepting = self._thread(self._accept)

    def close(self) -> None:
        """Call it when both ends have gone."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        for each in (self._listening, *self._sockets):
            each.close()

    def _thread(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def signatures(self) -> set[str]:
        """Whatever looks like an HMAC-SHA256 in hex, in requests and in frames."""
        sent = b"\n".join(bytes(said) + b"\n" + _unmasked(bytes(said)) for said in list(self._said))
        return {found.decode() for found in re.findall(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", sent)}

    def saw(self, text: str) -> bool:
        return any(text.encode() in bytes(said) or text.encode() in _unmasked(bytes(said)) for said in list(self._said))

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return  # closed
            self._sockets.append(near)
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.shutdown(socket.SHUT_RDWR)  # nobody is there any more
                continue
            self._sockets.append(far)
            self._said.append(said := bytearray())
            self._threads += [self._thread(_pass_on, near, far, said), self._thread(_pass_on, far, near, bytearray())]


def _pass_on(one: socket.socket, other: socket.socket, kept: bytearray) -> None:
    try:
        while some := one.recv(65_536):
            kept += some
            other.sendall(some)
    except OSError:
        pass  # one end has gone: the other is told below
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _unmasked(said: bytes) -> bytes:
    """The frames of a client after its upgrade (RFC 6455, section 5.2); nothing, if it made none."""
    head, _, rest = said.partition(b"\r\n\r\n")
    if b"upgrade: websocket" not in head.lower():
        return b""
    told = bytearray()
    while len(rest) >= 6:
        length, at = rest[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(rest[2 : 2 + size], "big"), 2 + size
        mask, body = rest[at : at + 4], rest[at + 4 : at + 4 + length]
        told += bytes(byte ^ mask[place % 4] for place, byte in enumerate(body)) + b"\n"
        rest = rest[at + 4 + length :]
    return bytes(told)


class SealedSite(RealSite):
    """The exchange knows only the canary key, and the engine finds it only in its vault."""

    def __enter__(self) -> "SealedSite":
        terms = self.folder.parent / "terms.json"
        terms.write_text(json.dumps({"keys": [{"key": KEY, "secret": SECRET}]}), encoding="utf-8")
        self.tape = ("--terms", str(terms))
        super().__enter__()
        self.tap = Tap(self.ports[self.face])
        text = self.config.read_text(encoding="utf-8").replace(f":{self.ports[self.face]}", f":{self.tap.port}")
        text = re.sub(r"key_env = .*\nsecret_env = .*\n", 'key_vault = "desk"\n', text)
        self.config.write_text(f'{text}\n[log]\nlevel = "debug"\n', encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.tap.close()

    def keys(self, *arguments: str, told: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "keys", *arguments, "--config", str(self.config)],
            cwd=self.folder,
            env=dict(os.environ),
            input=told,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def add(self) -> "subprocess.CompletedProcess[str]":
        return self.keys("add", "desk", "--account", "main", told=json.dumps({"key": KEY, "secret": SECRET}))

    @property
    def vault(self) -> Path:
        return self.folder / "var" / "vault"

    def log(self) -> str:
        """Of the engine that was started last."""
        logs = sorted(self.folder.glob("run-*.log"), key=lambda path: int(path.stem.split("-")[1]))
        return logs[-1].read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUREFIRE_VAULT_PASSPHRASE", PHRASE)
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def spellings(text: str) -> list[bytes]:
    """How a text may stand somewhere: as it is, in a URL, in JSON, in hex, in base64 (at each of its three offsets)."""
    raw = text.encode()
    inner = [b64encode(b"x" * offset + raw)[4:-4] for offset in range(3)]
    return [raw, quote(text, safe="").encode(), json.dumps(text)[1:-1].encode(), raw.hex().encode(), *inner]


def leaks(canaries: list[str], texts: dict[str, bytes]) -> list[str]:
    return [
        f"{place}: {canary[:14]}..."
        for place, text in texts.items()
        for canary in canaries
        if any(spelling in text for spelling in spellings(canary))
    ]


@pytest.mark.parametrize(("face", "venue"), [("bybit", "bybit"), ("binance-usdm", "binance")])
def test_canary_secrets_trade_and_are_nowhere_to_be_read(folder: Path, face: str, venue: str) -> None:
    with SealedSite(folder, face, "linear", venue) as site:
        said = {"keys add": site.add(), "keys list": site.keys("list", "--json"), "check": site.run("check", "--json")}
        assert {name: done.returncode for name, done in said.items()} == {"keys add": 0, "keys list": 0, "check": 0}, (
            said
        )
        assert "opens, 1 key(s)" in said["check"].stdout
        site.start()
        for number, side in enumerate(("buy", "sell")):
            body = {
                "signal_id": f"v{number}",
                "symbol": "BTCUSDT",
                "action": "open",
                "side": side,
                "quote_amount": "300",
            }
            assert site.post(body).status_code == 202
            site.rested()
        site.do("drop", scope="private", face=face)  # it logs in anew, and signs that
        site.fault("garbage", on="order", times=1)  # an answer that is told in an error
        site.post({"signal_id": "v2", "symbol": "ETHUSDT", "action": "open", "side": "buy", "quote_amount": "300"})
        site.rested()
        site.engine.send_signal(signal.SIGUSR1)
        until = time.monotonic() + PATIENCE_SECONDS
        while '"event":"state"' not in site.log():
            assert time.monotonic() < until
            time.sleep(0.05)
        texts = {path: httpx.get(site.api + path, timeout=PATIENCE_SECONDS).content for path in PATHS}
        assert b"openapi" in texts["/openapi.json"]
        said |= {"explain": site.run("explain", "v0"), "explain as JSON": site.run("explain", "v0", "--json")}
        second = site.run("run")  # the journal is the first one's: this one fails after its keys were decrypted
        assert second.returncode == 4, second
        said["a second engine"] = second
        limits = Path(f"/proc/{site.engine.pid}/limits").read_text(encoding="utf-8")
        assert (found := re.search(r"Max core file size +(\d+)", limits)) and int(found[1]) <= 1, (
            "no core with keys in it"
        )
        site.engine.send_signal(signal.SIGABRT)  # as a crash in foreign code ends a process
        site.engine.wait(PATIENCE_SECONDS)
        said |= {"rotate": site.keys("rotate", "desk", told=json.dumps({"key": KEY, "secret": SECRET}))}
        said |= {"audit": site.run("audit", "verify"), "explain without an engine": site.run("explain", "v0")}
        assert said["rotate"].returncode == 0 == said["audit"].returncode, said
        site.start()
        site.ready()
        assert site.end() == 0
        said["the last audit"] = last_audit = site.run("audit", "verify")
        with closing(open_reader(folder / "var" / "journal.sqlite")) as reader:
            facts = [record.fact for record in reader.records(0, 1_000_000)]
        on_record = [(fact.by, fact.what) for fact in facts if isinstance(fact, KeyNoted)]
        assert site.engine.stdout is not None
        texts["stdout"] = site.engine.stdout.read().encode()
        texts |= {name: (done.stdout + done.stderr).encode() for name, done in said.items()}
        exchange = {path for path in folder.glob("exchange-*.log")}
        files = [path for path in folder.rglob("*") if path.is_file() and path not in exchange]
        texts |= {str(path.relative_to(folder)): path.read_bytes() for path in files}
        signed = site.tap.signatures()
    assert {"var/vault", "var/vault.audit", "var/journal.sqlite", "var/events.ndjson", "engine.toml"} <= set(texts)
    assert any(name.startswith("run-") and b'"key decrypted"' in text for name, text in texts.items())
    assert site.tap.saw(KEY), "the tap sees what it is there for"
    assert len(signed) >= 5
    assert leaks([KEY, SECRET, PHRASE, *sorted(signed)], texts) == []
    audit = [json.loads(line) for line in texts["var/vault.audit"].splitlines()]
    looks = [(line["by"], line["what"]) for line in audit if line["what"] != "recorded"]
    assert looks == [
        ("keys add", "added"),
        ("check", "decrypted"),
        ("run", "decrypted"),
        ("run", "decrypted"),  # the second engine, before it saw that it was one
        ("keys rotate", "rotated"),
        ("run", "decrypted"),
    ]
    assert all((line["name"], line["account"]) == ("desk", "main") for line in audit if line["what"] != "recorded")
    assert on_record == looks  # each of them once, in the journal's chain
    assert "key desk of main: decrypted 4 time(s)" in last_audit.stdout and last_audit.returncode == 0


def test_a_vaults_keys_go_to_ccxts_process_and_nowhere_else(folder: Path) -> None:
    pytest.importorskip("ccxt")
    with SealedSite(folder, "bybit", "linear") as site:
        text = site.config.read_text(encoding="utf-8")
        words = 'venue = "ccxt"\nexchange = "bybit"\npoll_seconds = 0.5\n'
        site.config.write_text(text.replace('venue = "bybit"\n', words), encoding="utf-8")
        assert site.add().returncode == 0
        site.start()
        body = {"signal_id": "v0", "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "300"}
        assert site.post(body).status_code == 202
        site.rested()
        assert site.end() == 0
        assert len(site.truth().executions) >= 1
        files = [path for path in folder.rglob("*") if path.is_file() and not path.match("exchange-*.log")]
        texts = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        assert site.tap.saw(KEY)
        assert leaks([KEY, SECRET, PHRASE, *sorted(site.tap.signatures())], texts) == []


def test_the_search_for_canaries_finds_them() -> None:
    planted = [SECRET.encode(), quote(SECRET, safe="").encode(), SECRET.encode().hex().encode()]
    planted += [b64encode(b"Basic " * 2 + SECRET.encode()), b64encode(b"ab" + SECRET.encode() + b"tail")]
    for text in planted:
        assert leaks([SECRET], {"there": b"before " + text + b" after"}) != [], text


def test_a_vault_that_does_not_open_trades_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SealedSite(folder, "bybit", "linear") as site:
        assert site.add().returncode == 0
        sound = site.vault.read_bytes()

        def refused(words: str) -> None:
            for command in ("run", "check"):
                done = site.run(command, "--json")
                assert done.returncode == {"run": 4, "check": 1}[command], done
                assert words in done.stdout + done.stderr, done
                assert leaks([KEY, SECRET, PHRASE], {command: (done.stdout + done.stderr).encode()}) == []

        site.vault.chmod(0o644)
        refused("is open to others (644)")
        site.vault.chmod(0o600)
        site.vault.write_bytes(sound.replace(b'"revision": 1', b'"revision": 2'))
        refused("was changed by something other than")
        site.vault.write_bytes(sound[:200])
        refused("cut short or damaged")
        site.vault.write_bytes(sound.replace(b'"version": 1', b'"version": 0'))
        refused("is of version 0; this program reads version 1")
        site.vault.write_bytes(sound)
        monkeypatch.setenv("SUREFIRE_VAULT_PASSPHRASE", "another phrase altogether")
        refused("does not open with the passphrase in SUREFIRE_VAULT_PASSPHRASE")
        monkeypatch.delenv("SUREFIRE_VAULT_PASSPHRASE")
        refused("SUREFIRE_VAULT_PASSPHRASE is not set")
        assert not site.tap.saw("X-BAPI-SIGN") and not site.tap.saw("x-bapi-sign")
        assert site.truth().orders == ()


def test_a_terminal_is_asked_and_shows_nothing_of_what_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUREFIRE_VAULT_PASSPHRASE", raising=False)
    answers = [
        ("passphrase: ", PHRASE),
        ("passphrase, again: ", PHRASE),
        ("API key: ", KEY),
        ("API secret: ", SECRET),
        ("API password", ""),
        ("API uid", ""),
    ]
    shown = at_terminal(tmp_path, ("add", "desk", "--account", "main"), answers)
    assert "holds the key 'desk'" in shown
    assert leaks([KEY, SECRET, PHRASE], {"terminal": shown.encode()}) == []
    assert "desk: account main, revision 1" in at_terminal(tmp_path, ("list",), [("passphrase: ", PHRASE)])
    wrong = at_terminal(tmp_path, ("list",), [("passphrase: ", "something else again")])
    assert "does not open" in wrong
    answers = [("passphrase: ", PHRASE), ("new passphrase: ", "a new and long one"), ("again: ", "not the same one")]
    assert "the two are not the same; nothing was changed" in at_terminal(tmp_path, ("rotate",), answers)
    answers[2] = ("again: ", "a new and long one")
    assert "1 key(s) are under the new one" in at_terminal(tmp_path, ("rotate",), answers)
    assert "desk: account main, revision 2" in at_terminal(
        tmp_path, ("list",), [("passphrase: ", "a new and long one")]
    )


def at_terminal(folder: Path, arguments: tuple[str, ...], answers: list[tuple[str, str]]) -> str:
    """`keys` at a terminal of its own, where each question is waited for; what the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, str(ROOT / "run.py"), "keys", *arguments, "--data-dir", str(folder)]
        os.execv(sys.executable, command)
    shown, waiting = b"", list(answers)
    try:
        while True:
            ready, _, _ = select.select([terminal], [], [], PATIENCE_SECONDS)
            assert ready, f"nothing more came after: {shown!r}"
            try:
                some = os.read(terminal, 4096)
            except OSError:  # so Linux tells that the other end has closed
                break
            if not some:
                break
            shown += some
            if waiting and shown.endswith(b": ") and waiting[0][0].encode() in shown:
                os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert waiting == [], shown
    return shown.decode()


def test_keys_are_kept_and_changed_from_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SealedSite(folder, "bybit", "linear") as site:
        assert site.add().returncode == 0
        assert "has a key 'desk' already" in site.add().stderr
        assert site.keys("add", "desk", "--account", "nobody", told="{}").returncode == 2
        assert site.keys("add", "other", "--account", "main", told="not json").returncode == 2
        assert "the secret is missing" in site.keys("add", "other", "--account", "main", told='{"key": "k"}').stderr
        monkeypatch.setenv("NEXT", "cd" * 32)
        assert site.keys("rotate", "--new-key-env", "NEXT").returncode == 0
        assert "opens with a key of 32 bytes" in site.keys("list").stderr
        text = site.config.read_text(encoding="utf-8")
        site.config.write_text(f'{text}\n[vault]\nkey_env = "NEXT"\n', encoding="utf-8")
        keys = json.loads(site.keys("list", "--json").stdout)["keys"]
        assert [(key["name"], key["account"], key["revision"]) for key in keys] == [("desk", "main", 2)]
        site.start()
        assert site.end() == 0
        assert site.keys("remove", "desk").returncode == 0
        assert site.keys("list").stdout == "no keys\n"
        done = site.run("run")
        assert done.returncode == 4
        assert "holds no key 'desk'; put it in with: keys add desk --account main" in done.stderr
