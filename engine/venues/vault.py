"""Keys at rest: one file, sealed with AES-256-GCM under a passphrase (Argon2id) or a key of 32 bytes (HKDF).

    version | derivation | proof that the key is right | entries, each sealed | a seal over all of it

An entry's associated data are the version, its name, its account and its revision, so that one put in another's place
does not open. The seal over all of it tells when an entry was taken out, or put back as it was. What nothing inside a
file can tell is that the whole file is an older one.

Every look at a secret is written to `PATH.audit`, and safe there, before the secret is given out. The next start of an
engine puts what is new there on record in the journal's chain.
"""

import fcntl
import os
import stat
import unicodedata
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct
from msgspec.structs import replace

from engine.runtime.clock import Clock
from engine.runtime.config import VaultSection
from engine.runtime.log import Secret
from engine.venues.keys import Credentials, KeyProblem, usable

VERSION = 1
PASSPHRASE_MIN = 12
SIZE_MAX = 1 << 20
RECORDED = "recorded"
HOOK = "hook/"  # before a webhook's name, as the owner of an entry: no account is called so
WORDS = ("key", "secret", "password", "uid")  # what an entry may hold; the last two are for venues by ccxt
_NONCE = 12


class VaultProblem(KeyProblem):
    """A vault that does not open, or that must not be trusted. The text holds no secret."""


class Derivation(Struct, frozen=True, forbid_unknown_fields=True):
    """How the key is made. The lower bounds are OWASP's least for Argon2id; the upper ones keep a file from taking all
    memory.
    """

    salt: Annotated[bytes, Meta(min_length=16, max_length=64)]
    kind: Literal["argon2id", "key"] = "argon2id"
    memory_kib: Annotated[int, Meta(ge=19_456, le=1 << 20)] = 65_536
    passes: Annotated[int, Meta(ge=2, le=100)] = 3  # with 64 MiB and 4 lanes: RFC 9106, section 4, for little memory
    lanes: Annotated[int, Meta(ge=1, le=16)] = 4


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    account: str
    revision: Annotated[int, Meta(ge=1)]
    set_ns: int
    sealed: bytes


class VaultFile(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    derivation: Derivation
    proof: bytes
    entries: tuple[Entry, ...]
    seal: bytes


class _Versioned(Struct, frozen=True):
    version: int


class Note(Struct, frozen=True):
    """What was done with a key, by which command."""

    at_ns: int
    by: str
    what: str
    name: str
    account: str


class Unlock(Struct, frozen=True):
    """What opens a vault: a passphrase, or a key of 32 bytes written in hex or base64. `told` says whence it came."""

    kind: Literal["argon2id", "key"]
    secret: Secret
    told: str


class Vault:
    """An open vault. It holds the key, no secret; let go of it when the signers are made."""

    __slots__ = ("_box", "by", "entries", "looks", "path")

    def __init__(self, path: Path, file: VaultFile, box: AESGCM, by: str) -> None:
        self.path, self.entries, self._box, self.by = path, file.entries, box, by
        self.looks: list[Note] = []  # that were taken here

    def __repr__(self) -> str:
        return f"Vault({self.path}, {len(self.entries)} entries)"

    def secrets(self, name: str, account: str, clock: Clock) -> dict[str, Secret]:
        """By our words for them (WORDS). Raises VaultProblem, also when the look could not be written down."""
        entry = next((entry for entry in self.entries if entry.name == name), None)
        if entry is None:
            option = f"--hook {account.removeprefix(HOOK)}" if account.startswith(HOOK) else f"--account {account}"
            raise VaultProblem(f"{self.path} holds no key '{name}'; put it in with: keys add {name} {option}")
        if entry.account != account:
            raise VaultProblem(f"{self.path}: the key '{name}' is of '{entry.account}', not of '{account}'")
        self.looks.append(note(self.path, clock, self.by, "decrypted", name, account))
        told = _unsealed(self._box, entry.sealed, _bound(entry))
        if told is None:
            raise VaultProblem(f"{self.path}: the key '{name}' was changed, or put in another's place")
        return {word: Secret(value) for word, value in msgspec.json.decode(told, type=dict[str, str]).items()}


def unlock_of(section: VaultSection, environ: Mapping[str, str]) -> Unlock:
    """From the variable that the config names. Raises VaultProblem."""
    kind: Literal["argon2id", "key"] = "key" if section.key_env else "argon2id"
    name = section.key_env or section.passphrase_env
    what = "key" if section.key_env else "passphrase"
    if not environ.get(name):
        raise VaultProblem(f"the vault's {what}: the environment variable {name} is not set, or is empty")
    return Unlock(kind, Secret(environ[name]), f"the {what} in {name}")


def open_vault(path: Path, unlock: Unlock, by: str) -> Vault:
    """`by` is who looks, for the audit. Takes a tenth of a second or two, on purpose. Raises VaultProblem."""
    file = _read(path)
    return Vault(path, file, _opened(path, file, unlock), by)


def look_through(secrets: Mapping[str, Secret], signs: bool) -> None:
    """Whether an account can use them; `signs`: by a signer of ours. Raises KeyProblem."""
    for word in ("key", "secret"):
        if word not in secrets:
            raise VaultProblem(f"the {word} is missing")
    for word, secret in secrets.items():
        if not secret.reveal():
            raise VaultProblem(f"the {word} is empty")
    if not signs:
        return
    if extra := [word for word in secrets if word not in ("key", "secret")]:
        raise VaultProblem(f"'{extra[0]}' means nothing with this venue, only with 'ccxt'")
    if not usable(secrets["key"]):
        raise VaultProblem("the key has blanks or odd characters in it")
    try:
        Credentials(secrets["key"], secrets["secret"])
    except KeyProblem as problem:
        raise VaultProblem(f"the secret {problem}") from None


def put(path: Path, unlock: Unlock, name: str, account: str, secrets: Mapping[str, Secret], clock: Clock) -> Entry:
    """A new entry; the vault itself is made if there is none. Raises VaultProblem."""
    with _changing(path):
        file, box = _begun(unlock) if not os.path.lexists(path) else _at_hand(path, unlock)
        if any(entry.name == name for entry in file.entries):
            raise VaultProblem(f"{path} has a key '{name}' already; give it a new secret with: keys rotate {name}")
        entry = _sealed_entry(box, Entry(name, account, 1, clock.now_ns(), b""), secrets)
        note(path, clock, "keys add", "added", name, account)
        _write(path, _sealed_file(box, replace(file, entries=(*file.entries, entry))))
    return entry


def renew(path: Path, unlock: Unlock, name: str, secrets: Mapping[str, Secret], clock: Clock) -> Entry:
    """A new secret for an entry. Raises VaultProblem."""
    with _changing(path):
        file, box = _at_hand(path, unlock)
        old = _named(path, file, name)
        entry = _sealed_entry(box, replace(old, revision=old.revision + 1, set_ns=clock.now_ns()), secrets)
        note(path, clock, "keys rotate", "rotated", name, entry.account)
        _write(path, _sealed_file(box, replace(file, entries=tuple(entry if e is old else e for e in file.entries))))
    return entry


def remove(path: Path, unlock: Unlock, name: str, clock: Clock) -> Entry:
    """Raises VaultProblem."""
    with _changing(path):
        file, box = _at_hand(path, unlock)
        old = _named(path, file, name)
        note(path, clock, "keys remove", "removed", name, old.account)
        _write(path, _sealed_file(box, replace(file, entries=tuple(e for e in file.entries if e is not old))))
    return old


def relock(path: Path, unlock: Unlock, new: Unlock, clock: Clock) -> int:
    """All entries under a new passphrase or key; how many. Raises VaultProblem."""
    with _changing(path):
        file, box = _at_hand(path, unlock)
        vault = Vault(path, file, box, "keys rotate")
        bare, new_box = _begun(new)
        entries = []
        for entry in file.entries:
            secrets = vault.secrets(entry.name, entry.account, clock)
            entries.append(_sealed_entry(new_box, replace(entry, revision=entry.revision + 1), secrets))
        _write(path, _sealed_file(new_box, replace(bare, entries=tuple(entries))))
    return len(entries)


def note(path: Path, clock: Clock, by: str, what: str, name: str, account: str) -> Note:
    """One line to the vault's audit file, on the disk before this returns. Raises VaultProblem."""
    line, file = Note(clock.now_ns(), by, what, name, account), audit_of(path)
    try:
        number = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(number, msgspec.json.encode(line) + b"\n")
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        raise VaultProblem(f"{file} cannot be written ({error.strerror}); no key is used unseen") from None
    return line


def notes(path: Path) -> tuple[Note, ...]:
    """Every line of the audit file, oldest first, but one that a crash has torn. Raises VaultProblem."""
    found = []
    try:
        lines = audit_of(path).read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise VaultProblem(f"{audit_of(path)} cannot be read: {error.strerror}") from None
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Note))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return tuple(found)


def unrecorded(path: Path) -> tuple[Note, ...]:
    """What no journal has on record yet. Raises VaultProblem."""
    found = notes(path)
    marks = [place for place, line in enumerate(found, 1) if line.what == RECORDED]
    return found[marks[-1] :] if marks else found


def recorded(path: Path, clock: Clock, by: str) -> None:
    """All of it is on record in a journal now. Raises VaultProblem."""
    note(path, clock, by, RECORDED, "", "")


def audit_of(path: Path) -> Path:
    return path.with_name(path.name + ".audit")


# ------------------------------------------------------------------------------------------------------------- sealing


def _opened(path: Path, file: VaultFile, unlock: Unlock) -> AESGCM:
    if unlock.kind != file.derivation.kind:
        wanted = "a passphrase" if file.derivation.kind == "argon2id" else "a key of 32 bytes"
        raise VaultProblem(f"{path} opens with {wanted}, but what was given is {unlock.told}")
    box = _box(unlock, file.derivation)
    if _unsealed(box, file.proof, _about("proof", file.derivation)) is None:
        raise VaultProblem(f"{path} does not open with {unlock.told}")
    if _unsealed(box, file.seal, _about("seal", file.derivation, file.proof, file.entries)) is None:
        raise VaultProblem(
            f"{path} was changed by something other than `keys`: entries were altered, swapped or taken out"
        )
    return box


def _begun(unlock: Unlock) -> tuple[VaultFile, AESGCM]:
    """An empty vault under a salt of its own."""
    if unlock.kind == "argon2id" and len(unlock.secret.reveal()) < PASSPHRASE_MIN:
        raise VaultProblem(f"{unlock.told} has less than {PASSPHRASE_MIN} characters: too few to keep a key")
    derivation = Derivation(salt=os.urandom(16), kind=unlock.kind)
    box = _box(unlock, derivation)
    return VaultFile(VERSION, derivation, _seal(box, b"", _about("proof", derivation)), (), b""), box


def _box(unlock: Unlock, how: Derivation) -> AESGCM:
    text = unlock.secret.reveal()
    if how.kind == "key":
        whole = HKDF(SHA256(), 32, how.salt, b"surefire vault").derive(_key_bytes(text, unlock.told))
        return AESGCM(whole)
    # One passphrase has several spellings in Unicode, by keyboard and system.
    typed = unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")
    slow = Argon2id(salt=how.salt, length=32, iterations=how.passes, lanes=how.lanes, memory_cost=how.memory_kib)
    return AESGCM(slow.derive(typed))


def _key_bytes(text: str, told: str) -> bytes:
    for read in (bytes.fromhex, _base64):
        try:
            key = read(text.strip())
        except ValueError:
            continue
        if len(key) == 32:
            return key
    raise VaultProblem(f"{told} is not 32 bytes in hex or base64")


def _base64(text: str) -> bytes:
    return b64decode(text, validate=True)


def _sealed_entry(box: AESGCM, entry: Entry, secrets: Mapping[str, Secret]) -> Entry:
    told = msgspec.json.encode({word: secret.reveal() for word, secret in secrets.items()})
    return replace(entry, sealed=_seal(box, told, _bound(entry)))


def _sealed_file(box: AESGCM, file: VaultFile) -> VaultFile:
    return replace(file, seal=_seal(box, b"", _about("seal", file.derivation, file.proof, file.entries)))


def _bound(entry: Entry) -> bytes:
    return _about("entry", entry.name, entry.account, entry.revision)


def _about(*parts: object) -> bytes:
    """Associated data, written so that no two lists of parts look the same."""
    return msgspec.json.encode(("surefire vault", VERSION, *parts))


def _seal(box: AESGCM, told: bytes, about: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + box.encrypt(nonce, told, about)


def _unsealed(box: AESGCM, sealed: bytes, about: bytes) -> bytes | None:
    try:
        return box.decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
    except (InvalidTag, ValueError):  # ValueError: cut short
        return None


# ------------------------------------------------------------------------------------------------------------- on disk


def _at_hand(path: Path, unlock: Unlock) -> tuple[VaultFile, AESGCM]:
    file = _read(path)
    return file, _opened(path, file, unlock)


def _named(path: Path, file: VaultFile, name: str) -> Entry:
    for entry in file.entries:
        if entry.name == name:
            return entry
    raise VaultProblem(f"{path} holds no key '{name}'")


def _read(path: Path) -> VaultFile:
    text = _bytes_of(path)
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
    except msgspec.MsgspecError:
        raise VaultProblem(f"{path} is no vault, or is cut short or damaged: bring it back from a copy") from None
    if version != VERSION:
        raise VaultProblem(f"{path} is of version {version}; this program reads version {VERSION}")
    try:
        return msgspec.json.decode(text, type=VaultFile)
    except msgspec.MsgspecError as error:
        raise VaultProblem(f"{path} is damaged, or was weakened: {error}") from None


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode):
                raise VaultProblem(f"{path} is not a file")
            if told.st_mode & 0o077:
                raise VaultProblem(f"{path} is open to others ({told.st_mode & 0o777:o}): chmod 600 {path}")
            if told.st_uid not in (os.geteuid(), 0):
                raise VaultProblem(f"{path} is another user's")
            if told.st_size > SIZE_MAX:
                raise VaultProblem(f"{path} is larger than {SIZE_MAX:,} bytes: that is no vault")
            return file.read(SIZE_MAX)
    except FileNotFoundError:
        raise VaultProblem(f"{path} is not there; make it with: keys add NAME --account ACCOUNT") from None
    except OSError as error:
        raise VaultProblem(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One at a time, by a lock on the folder, which goes with the process that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise VaultProblem(f"{path.parent} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)  # the new name of the file is safe, too
    finally:
        os.close(folder)


def _write(path: Path, file: VaultFile) -> None:
    """The old vault, or the new one, whatever happens meanwhile."""
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with open(new, "xb", opener=_private) as out:
            out.write(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, path)
    except OSError as error:
        raise VaultProblem(f"{path} cannot be written: {error.strerror}") from None


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
