"""The vault: what it gives back, and everything that must keep it shut."""

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from engine.runtime.clock import live_clock
from engine.runtime.config import VaultSection
from engine.runtime.log import Secret
from engine.venues.vault import (
    Unlock,
    VaultProblem,
    audit_of,
    look_through,
    open_vault,
    put,
    recorded,
    relock,
    remove,
    renew,
    unlock_of,
    unrecorded,
)

CLOCK = live_clock()
PHRASE = "correct horse battery staple"
RAW = "ab" * 32


def by_phrase(text: str = PHRASE) -> Unlock:
    return Unlock("argon2id", Secret(text), "the passphrase in V")


def by_key(text: str = RAW) -> Unlock:
    return Unlock("key", Secret(text), "the key in K")


def pair(mark: str) -> dict[str, Secret]:
    return {"key": Secret(f"key-of-{mark}"), "secret": Secret(f"secret-of-{mark}")}


def shown(path: Path, unlock: Unlock, name: str, account: str) -> dict[str, str]:
    told = open_vault(path, unlock, "test").secrets(name, account, CLOCK)
    return {word: secret.reveal() for word, secret in told.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two keys under a key of 32 bytes, which is quick; the tests of a passphrase make their own."""
    for mark in ("a", "b"):
        put(tmp_path / "vault", by_key(), mark, f"of-{mark}", pair(mark), CLOCK)
    return tmp_path / "vault"


def rewrite(path: Path, change) -> None:
    file = json.loads(path.read_bytes())
    change(file)
    path.write_text(json.dumps(file))


@pytest.mark.parametrize("unlock", [by_phrase(), by_key(), by_key(b64encode(bytes.fromhex(RAW)).decode())])
def test_what_was_put_in_comes_out_and_is_not_in_the_file(tmp_path, unlock):
    path = tmp_path / "var" / "vault"
    put(path, unlock, "desk", "main", pair("desk"), CLOCK)
    assert shown(path, unlock, "desk", "main") == {"key": "key-of-desk", "secret": "secret-of-desk"}
    assert b"-of-desk" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in sorted(path.parent.iterdir())] == ["vault", "vault.audit"]


def test_the_same_put_in_twice_looks_different_each_time(tmp_path):
    for name in ("one", "two"):
        put(tmp_path / name, by_key(), "desk", "main", pair("desk"), CLOCK)
    one, two = (json.loads((tmp_path / name).read_bytes()) for name in ("one", "two"))
    assert one["derivation"]["salt"] != two["derivation"]["salt"]
    assert one["entries"][0]["sealed"] != two["entries"][0]["sealed"]


def test_a_wrong_passphrase_opens_nothing_and_changes_nothing(tmp_path):
    path = tmp_path / "vault"
    put(path, by_phrase(), "desk", "main", pair("desk"), CLOCK)
    before, wrong = path.read_bytes(), by_phrase("correct horse battery stable")
    for attempt in (
        lambda: open_vault(path, wrong, "test"),
        lambda: put(path, wrong, "more", "main", pair("more"), CLOCK),
        lambda: renew(path, wrong, "desk", pair("new"), CLOCK),
        lambda: remove(path, wrong, "desk", CLOCK),
        lambda: relock(path, wrong, by_key(), CLOCK),
    ):
        with pytest.raises(VaultProblem, match="does not open with the passphrase in V"):
            attempt()
    assert path.read_bytes() == before
    with pytest.raises(VaultProblem, match="opens with a passphrase, but what was given is the key in K"):
        open_vault(path, by_key(), "test")


def test_a_key_is_only_its_own_accounts(path):
    with pytest.raises(VaultProblem, match="the key 'a' is of 'of-a', not of 'of-b'"):
        shown(path, by_key(), "a", "of-b")
    with pytest.raises(VaultProblem, match="holds no key 'c'"):
        shown(path, by_key(), "c", "of-a")


def swap(file):
    a, b = file["entries"]
    a["sealed"], b["sealed"] = b["sealed"], a["sealed"]


def flip(file):
    sealed = bytearray(b64decode(file["entries"][1]["sealed"]))
    sealed[-1] ^= 1
    file["entries"][1]["sealed"] = b64encode(sealed).decode()


@pytest.mark.parametrize(
    "change",
    [
        swap,
        flip,
        lambda file: file["entries"].reverse(),
        lambda file: file["entries"].pop(),
        lambda file: file["entries"][0].update(account="of-b"),
        lambda file: file["entries"][0].update(name="c"),
        lambda file: file["entries"][0].update(revision=7),
        lambda file: file["entries"][0].update(set_ns=1),
        lambda file: file["entries"][0].update(sealed=""),
        lambda file: file["entries"].append(file["entries"][0]),
        lambda file: file.update(seal=""),
    ],
)
def test_whatever_is_changed_without_the_key_keeps_it_shut(path, change):
    rewrite(path, change)
    with pytest.raises(VaultProblem, match="was changed by something other than"):
        open_vault(path, by_key(), "test")


def test_an_entry_in_anothers_place_does_not_open_even_for_one_who_passes_the_seal(path):
    """The associated data hold by themselves, without the seal over the whole."""
    vault = open_vault(path, by_key(), "test")
    a, b = vault.entries
    from msgspec.structs import replace

    vault.entries = (replace(a, sealed=b.sealed), b)
    with pytest.raises(VaultProblem, match="the key 'a' was changed, or put in another's place"):
        vault.secrets("a", "of-a", CLOCK)
    vault.entries = (replace(a, revision=2), b)
    with pytest.raises(VaultProblem, match="the key 'a' was changed"):
        vault.secrets("a", "of-a", CLOCK)


def test_an_entry_put_back_as_it_was_before_is_told(path):
    old = json.loads(path.read_bytes())["entries"][0]
    renew(path, by_key(), "a", pair("new"), CLOCK)
    rewrite(path, lambda file: file["entries"].__setitem__(0, old))
    with pytest.raises(VaultProblem, match="was changed by something other than"):
        open_vault(path, by_key(), "test")


def test_a_file_cut_short_anywhere_does_not_open(path):
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(VaultProblem, match="cut short or damaged"):
            open_vault(path, by_key(), "test")


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_named(path, version):
    rewrite(path, lambda file: file.update(version=version))
    with pytest.raises(VaultProblem, match=f"is of version {version}; this program reads version 1"):
        open_vault(path, by_key(), "test")


@pytest.mark.parametrize(
    "weak",
    [{"memory_kib": 8}, {"memory_kib": 1 << 30}, {"passes": 1}, {"lanes": 0}, {"salt": "AAAA"}, {"kind": "none"}],
)
def test_weak_or_ruinous_parameters_are_refused_before_they_are_used(path, weak):
    rewrite(path, lambda file: file["derivation"].update(weak))
    with pytest.raises(VaultProblem, match="is damaged, or was weakened"):
        open_vault(path, by_key(), "test")


def test_parameters_changed_within_the_bounds_open_nothing(tmp_path):
    path = tmp_path / "vault"
    put(path, by_phrase(), "desk", "main", pair("desk"), CLOCK)
    rewrite(path, lambda file: file["derivation"].update(memory_kib=19_456))
    with pytest.raises(VaultProblem, match="does not open"):
        open_vault(path, by_phrase(), "test")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_file_open_to_others_is_refused(path, mode):
    path.chmod(mode)
    with pytest.raises(VaultProblem, match="chmod 600"):
        open_vault(path, by_key(), "test")


def test_a_vault_that_is_not_there_or_no_file_is_told(tmp_path):
    with pytest.raises(VaultProblem, match="is not there; make it with: keys add"):
        open_vault(tmp_path / "vault", by_key(), "test")
    with pytest.raises(VaultProblem, match="cannot be read"):
        open_vault(tmp_path, by_key(), "test")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(VaultProblem, match="is not there"):  # not taken for a vault to be made
        put(tmp_path / "link", by_key(), "desk", "main", pair("desk"), CLOCK)


def test_rotation_of_one_leaves_the_others(path):
    assert renew(path, by_key(), "a", pair("new"), CLOCK).revision == 2
    assert shown(path, by_key(), "a", "of-a")["secret"] == "secret-of-new"
    assert shown(path, by_key(), "b", "of-b")["secret"] == "secret-of-b"


def test_rotation_of_all_makes_the_old_key_useless(path):
    assert relock(path, by_key(), by_phrase(), CLOCK) == 2
    with pytest.raises(VaultProblem, match="opens with a passphrase"):
        open_vault(path, by_key(), "test")
    assert shown(path, by_phrase(), "b", "of-b") == {"key": "key-of-b", "secret": "secret-of-b"}


def test_a_rotation_that_could_not_be_written_leaves_the_old_vault(path, monkeypatch):
    def full(number: int) -> None:
        if os.readlink(f"/proc/self/fd/{number}").endswith("vault.new"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VaultProblem, match="cannot be written: No space left"):
        relock(path, by_key(), by_key("cd" * 32), CLOCK)
    monkeypatch.undo()
    assert shown(path, by_key(), "a", "of-a")["key"] == "key-of-a"
    remove(path, by_key(), "a", CLOCK)  # what was left behind is in nobody's way
    assert [entry.name for entry in open_vault(path, by_key(), "test").entries] == ["b"]


def test_a_name_is_given_once(path):
    with pytest.raises(VaultProblem, match="has a key 'a' already"):
        put(path, by_key(), "a", "of-a", pair("a"), CLOCK)


def test_every_decryption_is_written_down_without_content(path):
    shown(path, by_key(), "a", "of-a")
    renew(path, by_key(), "b", pair("new"), CLOCK)
    relock(path, by_key(), by_key("cd" * 32), CLOCK)
    text = audit_of(path).read_text()
    told = [(line["by"], line["what"], line["name"], line["account"]) for line in map(json.loads, text.splitlines())]
    assert told[2:] == [
        ("test", "decrypted", "a", "of-a"),
        ("keys rotate", "rotated", "b", "of-b"),
        ("keys rotate", "decrypted", "a", "of-a"),
        ("keys rotate", "decrypted", "b", "of-b"),
    ]
    assert "secret-of" not in text
    assert audit_of(path).stat().st_mode & 0o777 == 0o600


def test_what_no_journal_has_on_record_is_everything_since_one_had_it(path):
    shown(path, by_key(), "a", "of-a")
    assert [note.what for note in unrecorded(path)] == ["added", "added", "decrypted"]
    recorded(path, CLOCK, "run")
    assert unrecorded(path) == ()
    shown(path, by_key(), "b", "of-b")
    with audit_of(path).open("ab") as file:
        file.write(b'{"at_ns":1,"by":"ch')  # a crash in the midst of a line
    assert [(note.by, note.what, note.name, note.account) for note in unrecorded(path)] == [
        ("test", "decrypted", "b", "of-b")
    ]
    audit_of(path).unlink()
    assert unrecorded(path) == ()


def test_a_look_that_cannot_be_written_down_is_not_taken(path):
    audit_of(path).unlink()
    audit_of(path).mkdir()
    with pytest.raises(VaultProblem, match="no key is used unseen"):
        shown(path, by_key(), "a", "of-a")


@pytest.mark.parametrize(
    ("unlock", "said"),
    [
        (by_phrase("short"), "less than 12 characters"),
        (by_key("ab" * 31), "is not 32 bytes in hex or base64"),
        (by_key("not hex at all!"), "is not 32 bytes in hex or base64"),
    ],
)
def test_a_poor_passphrase_or_key_makes_no_vault(tmp_path, unlock, said):
    with pytest.raises(VaultProblem, match=said) as caught:
        put(tmp_path / "vault", unlock, "desk", "main", pair("desk"), CLOCK)
    assert unlock.secret.reveal() not in str(caught.value)
    assert not (tmp_path / "vault").exists()


def test_one_passphrase_typed_in_two_forms_of_unicode_is_one(tmp_path):
    put(tmp_path / "vault", by_phrase("caf\u00e9 caf\u00e9 caf\u00e9"), "desk", "main", pair("desk"), CLOCK)
    assert (
        shown(tmp_path / "vault", by_phrase("cafe\u0301 cafe\u0301 cafe\u0301"), "desk", "main")["key"] == "key-of-desk"
    )


def test_the_variable_that_is_missing_is_named():
    with pytest.raises(
        VaultProblem, match="the vault's passphrase: the environment variable SUREFIRE_VAULT_PASSPHRASE"
    ):
        unlock_of(VaultSection(), {})
    with pytest.raises(VaultProblem, match="the vault's key: the environment variable K is not set"):
        unlock_of(VaultSection(key_env="K"), {"K": "", "SUREFIRE_VAULT_PASSPHRASE": PHRASE})


@pytest.mark.parametrize(
    ("words", "signs", "said"),
    [
        ({"key": "k"}, True, "the secret is missing"),
        ({"key": "", "secret": "s"}, False, "the key is empty"),
        ({"key": "a b", "secret": "s"}, True, "the key has blanks"),
        ({"key": "k", "secret": "-----BEGIN PRIVATE KEY-----\nAA"}, True, "the secret holds a private key that cannot"),
        ({"key": "k", "secret": "s", "uid": "7"}, True, "'uid' means nothing"),
    ],
)
def test_what_could_not_sign_is_not_taken_in(words, signs, said):
    with pytest.raises(VaultProblem, match=said):
        look_through({word: Secret(text) for word, text in words.items()}, signs)


def test_an_open_vault_shows_nothing(path):
    vault = open_vault(path, by_key(), "test")
    assert repr(vault) == f"Vault({path}, 2 entries)"
    assert RAW not in repr(by_key())
