"""The house rules of which room may know what, read off the source by its syntax tree.

Each rule is a function from one parsed file to sentences about what is wrong in it. Below the rules stands, for each,
a piece of source that breaks it, so that a rule that has gone blind is found.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = (
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "actors",
    "bench",
    "compose.yaml",
    "engine",
    "pyproject.toml",
    "run.py",
    "tests",
)

_GROUND = ("engine.core", "engine.runtime")
# The longest name that fits a module is its line; it may import what is under one of these names.
ARROWS: dict[str, tuple[str, ...]] = {
    "engine": (),
    "engine.core": ("engine.core",),
    "engine.runtime": _GROUND,
    "engine.venues": (*_GROUND, "engine.venues"),
    "engine.venues.paper": (*_GROUND, "engine.venues", "engine.market"),  # fills come from the matching engine
    "engine.venues.store": (*_GROUND, "engine.venues", "engine.market"),
    "engine.venues.link": (*_GROUND, "engine.venues", "engine.market"),
    "engine.venues.link_server": (*_GROUND, "engine.venues", "engine.market"),
    "engine.venues.link_wire": (*_GROUND, "engine.venues", "engine.market"),
    "engine.edges": (*_GROUND, "engine.edges"),
    "engine.market": (*_GROUND, "engine.market"),
    "engine.web": (*_GROUND, "engine.web"),
    "engine.exchange": (*_GROUND, "engine.exchange", "engine.market"),
    # An actor knows the shapes of its ports, not who is behind them, and no colleague.
    "actors": (
        *_GROUND,
        "engine.edges.base",
        "engine.edges.dialects",
        "engine.venues.base",
        "engine.venues.throttle",
        "actors.ports",
    ),
    "actors.desk": (*_GROUND, "engine.venues.base", "engine.venues.throttle", "actors.ports", "actors.order"),
    "actors.operator": (*_GROUND, "engine.venues.base", "actors.ports", "actors.desk"),
    "actors.wiring": ("engine", "actors"),
    "actors.assembly": ("engine", "actors"),  # from a config to the parts that wiring connects
    "actors.shards": (
        *_GROUND,
        "engine.edges",
        "actors.wiring",
    ),  # which engines of a process run, and what reaches them
    "actors.sharing": ("engine", "actors"),  # as assembly, where engines share the accounts
    "actors.shards_commands": (*_GROUND, "engine.web.ports"),  # a stop for shards that others hold
    "actors.shards_web": (*_GROUND, "engine.edges", "engine.web", "actors"),
    "actors.web": (*_GROUND, "engine.edges", "engine.web", "actors"),  # the API's ports, filled
    "actors.demo": ("engine", "actors"),
    "actors.rehearsal": ("engine", "actors"),
    "actors.hooks": ("engine", "actors.wiring"),  # what goes over HTTP beside the venues
    "actors.real": ("engine", "actors.wiring"),  # accounts at real venues, opened and looked over
    "actors.clearing": ("engine", "actors.real", "actors.wiring"),  # empties an account without an engine
    "actors.checkup": ("engine", "actors.real", "actors.hooks"),  # looks at everything before anything runs
    "actors.commands": ("engine", "actors"),  # from a command's arguments to what it starts
    "run": ("engine.runtime.commandline", "actors.commands"),
}

# The data types of the standard library: nothing in them waits, ticks, draws lots, writes or logs.
PURE = (
    *(
        "__future__",
        "abc",
        "array",
        "base64",
        "bisect",
        "calendar",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
    ),
    *("enum", "fractions", "functools", "hashlib", "heapq", "hmac", "itertools", "math", "numbers", "operator", "re"),
    *("string", "struct", "types", "typing", "unicodedata", "urllib", "zlib"),
)

CLOCK_CALLS = re.compile(
    r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|process_time|process_time_ns"
    r"|thread_time|thread_time_ns|localtime|gmtime|ctime|sleep)"
    r"|(datetime\.)*(datetime|date)\.(now|utcnow|today)"
)
CHANCE_CALLS = re.compile(r"random\.(?!Random$).+|uuid\.uuid[14]|os\.(urandom|getrandom)|secrets(\..+)?")
THREAD_NAMES = re.compile(
    r"(threading|_thread|multiprocessing|concurrent|asyncio|subprocess)(\..+)?|trio\.(to_thread|from_thread|to_process)"
    r"(\..+)?|os\.(fork|spawn\w+|system|popen)"
)
UNSAFE_CALLS = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)|(pickle|cPickle|marshal|shelve|dill|yaml)(\..+)?|msgspec\.yaml(\..+)?"
)
CLOCK_ROOMS = ("engine.runtime.clock", "engine.runtime.journal.sqlite")
THREAD_ROOMS = (
    "engine.runtime.journal.sqlite",
    "engine.venues.ccxt.process",  # foreign code that waits, in a process of its own
    "engine.runtime.journal.postgres",  # what a start reads
    "engine.edges.kafka",  # the client library wants one that polls
    "actors.metrics",  # its log file, past the loop
    "actors.web",  # what is read over a network for the API
    "actors.commands.beside",  # the local exchange, in a process of its own
    "actors.commands.demo",  # its admin, asked past the loop
)
# Live ones are made here.
SEEDLESS_ROOMS = ("actors.commands.venue", "actors.commands.exchange", "actors.assembly", "actors.sharing")
# A nonce nobody can foresee, and that no seed may repeat; a name that nobody else has.
CHANCE_ROOMS = ("engine.venues.vault", "engine.runtime.journal.identity")
CATCH_ALL_ROOMS = ("engine.runtime.supervise",)  # the supervisor alone catches what must not happen
FLOAT_ROOMS = ("engine.core.tally", "engine.core.performance")  # statistics, no money
FORBIDDEN_WORDS = frozenset({"manager", "handler", "helper", "helpers", "utils", "util", "processor"})


class Source(NamedTuple):
    module: str  # dotted
    tree: ast.Module


Rule = Callable[[Source], Iterator[str]]


def imports_follow_the_arrows(source: Source) -> Iterator[str]:
    line = max((name for name in ARROWS if _under(source.module, name)), key=len)
    for node, name in _imported(source):
        if name.split(".")[0] not in ("engine", "actors", "tests", "bench", "run"):
            continue
        if not any(_under(name, allowed) for allowed in ARROWS[line]):
            yield f"line {node.lineno}: {source.module} must not import {name}"


def core_imports_only_data_types(source: Source) -> Iterator[str]:
    if not _under(source.module, "engine.core"):
        return
    for node, name in _imported(source):
        top = name.split(".")[0]
        histogram = top == "hdrh" and source.module == "engine.core.tally"
        if top not in PURE and top not in ("engine", "msgspec") and not histogram:
            yield f"line {node.lineno}: {source.module} must not import {name}"


def core_waits_for_nothing(source: Source) -> Iterator[str]:
    if _under(source.module, "engine.core"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
                yield f"line {node.lineno}: the core has no async"


def clocks_stay_in_their_rooms(source: Source) -> Iterator[str]:
    if source.module not in CLOCK_ROOMS:
        yield from _used(source, CLOCK_CALLS, "reads a clock or sleeps")


def chance_comes_from_the_generator_handed_in(source: Source) -> Iterator[str]:
    if source.module not in CHANCE_ROOMS:
        yield from _used(source, CHANCE_CALLS, "draws lots of its own")
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Call)
            and _resolved(node.func, _aliases(source)) == "random.Random"
            and not (node.args or node.keywords)
            and source.module not in SEEDLESS_ROOMS
        ):
            yield f"line {node.lineno}: Random() without a seed"


def threads_stay_in_their_rooms(source: Source) -> Iterator[str]:
    if source.module not in THREAD_ROOMS:
        yield from _used(source, THREAD_NAMES, "starts threads, processes or another loop")


def nobody_catches_everything(source: Source) -> Iterator[str]:
    if source.module in CATCH_ALL_ROOMS:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            last = node.body[-1]
            if isinstance(last, ast.Raise) and last.exc is None:
                continue  # tidies up and lets it pass
            if any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in caught):
                yield f"line {node.lineno}: catches everything"


def nothing_runs_or_loads_foreign_code(source: Source) -> Iterator[str]:
    yield from _used(source, UNSAFE_CALLS, "runs text as code, or loads objects from bytes")


def nobody_iterates_over_a_set(source: Source) -> Iterator[str]:
    sets = {ast.unparse(target) for target in _targets_of_sets(source.tree)}
    unordered = [part for node in ast.walk(source.tree) for part in _parts_of_sets(node)]
    for node in ast.walk(source.tree):
        if any(node is part for part in unordered):
            continue  # one set made of another keeps no order to lose
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            over = node.iter
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("list", "tuple", "iter", "enumerate"):
            over = node.args[0] if node.args else node
        elif isinstance(node, ast.Starred):
            over = node.value
        else:
            continue
        if _is_set(over) or ast.unparse(over) in sets:
            yield f"line {over.lineno}: iterates over a set, whose order is chance"


def money_meets_no_float(source: Source) -> Iterator[str]:
    if not _under(source.module, "engine.core") or source.module in FLOAT_ROOMS:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "float":
            yield f"line {node.lineno}: float"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"line {node.lineno}: the float {node.value}"


def names_say_what_a_thing_is(source: Source) -> Iterator[str]:
    names = [(1, part) for part in source.module.split(".")]
    names += [(node.lineno, node.name) for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    for lineno, name in names:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
        for word in words:
            if word.lower() in FORBIDDEN_WORDS:
                yield f"line {lineno}: '{name}' says that the name is not found yet"


def nothing_is_left_for_later(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield f"line {node.lineno}: NotImplementedError"


def lengths_of_time_have_one_home(source: Source) -> Iterator[str]:
    if source.module == "engine.core.times":
        return
    for node in source.tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            name = ast.unparse(target)
            if name.strip("_").removesuffix("_NS") in ("MILLISECOND", "SECOND", "DAY"):
                yield f"line {node.lineno}: {name} is in engine.core.times"


RULES: tuple[Rule, ...] = (
    imports_follow_the_arrows,
    core_imports_only_data_types,
    core_waits_for_nothing,
    clocks_stay_in_their_rooms,
    chance_comes_from_the_generator_handed_in,
    threads_stay_in_their_rooms,
    nobody_catches_everything,
    nothing_runs_or_loads_foreign_code,
    nobody_iterates_over_a_set,
    money_meets_no_float,
    names_say_what_a_thing_is,
    nothing_is_left_for_later,
    lengths_of_time_have_one_home,
)

BREACHES: tuple[tuple[Rule, str, str], ...] = (
    (imports_follow_the_arrows, "engine.core.rules", "from engine.runtime.clock import Clock"),
    (imports_follow_the_arrows, "engine.core.rules", "from ..runtime import clock"),
    (imports_follow_the_arrows, "engine.runtime.switch", "import engine.venues.base"),
    (imports_follow_the_arrows, "engine.runtime.switch", "from engine import venues"),
    (imports_follow_the_arrows, "engine.edges.http", "def f():\n    from engine.web import api"),
    (imports_follow_the_arrows, "engine.venues.bybit.client", "from engine.market.book import Book"),
    (imports_follow_the_arrows, "engine.market.live", "from engine.venues.base import Venue"),
    (imports_follow_the_arrows, "actors.gate", "from actors.order import order_actor"),
    (imports_follow_the_arrows, "actors.gate", "from engine.venues.paper import PaperVenue"),
    (imports_follow_the_arrows, "engine.web.api", "import run"),
    (imports_follow_the_arrows, "actors.gate", "from actors.commands.frame import say"),
    (imports_follow_the_arrows, "run", "from engine.web.asking import ask"),
    (core_imports_only_data_types, "engine.core.rules", "import trio"),
    (core_imports_only_data_types, "engine.core.rules", "import logging"),
    (core_imports_only_data_types, "engine.core.blotter", "from hdrh.histogram import HdrHistogram"),
    (core_imports_only_data_types, "engine.core.rules", "from pathlib import Path"),
    (core_waits_for_nothing, "engine.core.rules", "async def f(): ..."),
    (clocks_stay_in_their_rooms, "actors.gate", "import time\ntime.time()"),
    (clocks_stay_in_their_rooms, "actors.gate", "import time as t\nnow = t.monotonic_ns"),
    (clocks_stay_in_their_rooms, "actors.gate", "from time import perf_counter\nperf_counter()"),
    (clocks_stay_in_their_rooms, "actors.gate", "from datetime import datetime, UTC\ndatetime.now(UTC)"),
    (clocks_stay_in_their_rooms, "actors.gate", "import datetime\ndatetime.date.today()"),
    (clocks_stay_in_their_rooms, "actors.gate", "import time\ntime.sleep(1)"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "import random\nrandom.random()"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "from random import choice"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "from random import Random\nr = Random()"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "from uuid import uuid4"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "import os\nos.urandom(8)"),
    (chance_comes_from_the_generator_handed_in, "actors.gate", "import secrets"),
    (threads_stay_in_their_rooms, "actors.gate", "import threading"),
    (threads_stay_in_their_rooms, "actors.gate", "from concurrent.futures import ThreadPoolExecutor"),
    (threads_stay_in_their_rooms, "actors.gate", "import trio\nasync def f(): await trio.to_thread.run_sync(g)"),
    (threads_stay_in_their_rooms, "engine.edges.http", "import asyncio"),
    (nobody_catches_everything, "actors.gate", "try: f()\nexcept Exception: pass"),
    (nobody_catches_everything, "actors.gate", "try: f()\nexcept (ValueError, BaseException): pass"),
    (nobody_catches_everything, "actors.gate", "try: f()\nexcept: pass"),
    (nobody_catches_everything, "actors.gate", "try: f()\nexcept BaseException as e: raise E() from e"),
    (nothing_runs_or_loads_foreign_code, "engine.edges.http", "eval('1')"),
    (nothing_runs_or_loads_foreign_code, "engine.edges.http", "import pickle"),
    (nothing_runs_or_loads_foreign_code, "engine.edges.http", "from yaml import load"),
    (nobody_iterates_over_a_set, "actors.gate", "for x in {1, 2}: f(x)"),
    (nobody_iterates_over_a_set, "actors.gate", "y = [x for x in set(names)]"),
    (nobody_iterates_over_a_set, "actors.gate", "seen = set()\nfor x in seen: f(x)"),
    (nobody_iterates_over_a_set, "actors.gate", "class A:\n    s: set[str]\n    def f(self): return list(self.s)"),
    (nobody_iterates_over_a_set, "actors.gate", "both = a | {x for x in b}\nlist({*c})"),
    (money_meets_no_float, "engine.core.rules", "x = float('1')"),
    (money_meets_no_float, "engine.core.rules", "def f(x: float): ..."),
    (money_meets_no_float, "engine.core.rules", "x = 0.5"),
    (names_say_what_a_thing_is, "engine.core.rules", "class OrderManager: ..."),
    (names_say_what_a_thing_is, "engine.core.rules", "class HTTPHandler: ..."),
    (names_say_what_a_thing_is, "engine.runtime.file_utils", ""),
    (nothing_is_left_for_later, "engine.core.rules", "def f(): raise NotImplementedError"),
    (lengths_of_time_have_one_home, "actors.gate", "_SECOND_NS = 10**9"),
)

ALLOWED: tuple[tuple[str, str], ...] = (
    (
        "engine.core.rules",
        "from decimal import Decimal\nfrom engine.core.ids import is_ours\nimport msgspec",
    ),
    ("engine.core.tally", "from hdrh.histogram import HdrHistogram\nx = 0.5"),
    ("engine.venues.paper", "from random import Random\nfrom engine.market.book import Book\nRandom(3)"),
    ("engine.runtime.clock", "import time\ntime.time_ns()"),
    ("engine.runtime.journal.sqlite", "import threading, time\ntime.perf_counter_ns()"),
    ("actors.gate", "import trio\ntrio.current_time()\nfrom actors.ports import World"),
    ("actors.gate", "seen = {1}\nif x in seen: f(sorted(seen), len(seen))\nfor x in [1]: ..."),
    ("actors.gate", "a = {1}\nb = {0, *a}\nc = {f(x) for x in a}"),
    ("actors.wiring", "from actors.gate import gate\nfrom engine.venues.paper import Paper"),
    ("engine.web.api", "from datetime import UTC, datetime\ndatetime.fromtimestamp(1, UTC)"),
    ("actors.gate", "try: f()\nexcept BaseException:\n    g()\n    raise"),
    ("engine.edges.http", "def handle(evaluate): evaluate()\nre.compile('x')"),
)


def sources() -> list[Path]:
    """Every Python file of the engine, whether committed or not."""
    return [ROOT / "run.py", *sorted((ROOT / "engine").rglob("*.py")), *sorted((ROOT / "actors").rglob("*.py"))]


def test_what_is_caught_only_to_tidy_up_says_why() -> None:
    mute = []
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.strip().startswith("except BaseException") and "#" not in line + lines[number + 1]:
                mute.append(f"{path.relative_to(ROOT)}, line {number + 1}")
    assert mute == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule):
    broken = [
        f"{path.relative_to(ROOT)}, {sentence}" for path in sources() if path.exists() for sentence in rule(_file(path))
    ]
    assert broken == []


@pytest.mark.parametrize(("rule", "module", "text"), BREACHES)
def test_the_rule_sees_a_breach(rule: Rule, module: str, text: str):
    assert list(rule(_source(module, text))) != []


@pytest.mark.parametrize(("module", "text"), ALLOWED)
def test_no_rule_minds_what_is_allowed(module: str, text: str):
    assert [sentence for rule in RULES for sentence in rule(_source(module, text))] == []


def test_every_rule_has_a_breach_that_it_must_see():
    assert [rule.__name__ for rule in RULES if rule not in [breach[0] for breach in BREACHES]] == []


def test_there_is_source_to_look_at():
    modules = [_module(path) for path in sources()]
    assert "engine.core.messages" in modules
    assert "run" in modules
    assert len(modules) > 20


def test_the_top_level_holds_only_what_convention_puts_there():
    assert strangers(tracked()) == []


def test_a_stranger_at_the_top_level_is_seen():
    assert strangers(["engine/core/ids.py", "notes.md", "var/journal.sqlite", ".ci/run"]) == ["notes.md", "var"]


def test_nothing_that_a_run_leaves_behind_is_tracked():
    left = re.compile(r"__pycache__|\.pyc$|\.sqlite|\.egg-info|\.coverage|\.venv")
    assert [name for name in tracked() if left.search(name)] == []


def test_every_folder_of_source_is_a_package():
    """An installation would leave it out otherwise, and tests of one name in two folders shadow each other."""
    everywhere = [folder for top in ("engine", "actors", "tests", "bench") for folder in (ROOT / top).rglob("*")]
    folders = [folder for folder in everywhere if folder.is_dir() and list(folder.glob("*.py"))]
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def strangers(names: list[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in names} - set(TOP_LEVEL))


def tracked() -> list[str]:
    """The files git knows, or all that stand here when this is no git checkout (an unpacked archive)."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git checkout, so nothing is tracked")
    return listed.stdout.splitlines()


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _file(path: Path) -> Source:
    return _source(_module(path), path.read_text(encoding="utf-8"))


def _source(module: str, text: str) -> Source:
    return Source(module, ast.parse(text))


def _under(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def _imported(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Every module or name imported, at any depth, dotted and absolute."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = source.module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            for alias in node.names:
                yield node, f"{base}.{alias.name}"


@cache
def _aliases(source: Source) -> dict[str, str]:
    """What a bare name of this file stands for: `t` for `time` after `import time as t`."""
    names = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _resolved(node: ast.expr, aliases: dict[str, str]) -> str:
    """`t.monotonic` as `time.monotonic`; "" for what is not a plain dotted name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([aliases.get(node.id, node.id if not parts else ""), *reversed(parts)])


def _used(source: Source, forbidden: re.Pattern[str], what: str) -> Iterator[str]:
    """Imports and uses of a forbidden name. A local variable that happens to be called like a module is none."""
    aliases = _aliases(source)
    for node, name in _imported(source):
        if forbidden.fullmatch(name):
            yield f"line {node.lineno}: {name} {what}"
    for use in ast.walk(source.tree):
        if isinstance(use, ast.Attribute | ast.Name) and forbidden.fullmatch(_resolved(use, aliases)):
            yield f"line {use.lineno}: {ast.unparse(use)} {what}"


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left) or _is_set(node.right)
    called = isinstance(node, ast.Call) and ast.unparse(node.func) in ("set", "frozenset")
    return called or isinstance(node, ast.Set | ast.SetComp)


def _parts_of_sets(node: ast.AST) -> list[ast.expr | ast.comprehension]:
    if isinstance(node, ast.Set):
        return list(node.elts)
    return list(node.generators) if isinstance(node, ast.SetComp) else []


def _targets_of_sets(tree: ast.Module) -> Iterator[ast.expr]:
    """What a file calls a set: assigned one, or annotated as one (also `self.x` for a class's field `x`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_set(node.value):
            yield from node.targets
        elif isinstance(node, ast.AnnAssign) and re.match(r"(frozen)?set\b", ast.unparse(node.annotation)):
            yield node.target
            if isinstance(node.target, ast.Name):
                yield ast.Attribute(ast.Name("self", ast.Load()), node.target.id, ast.Load())
