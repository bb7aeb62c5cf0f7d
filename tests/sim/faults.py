"""The swarm: what kind of world a seed draws. Each family of faults is data, is on or off by its own coin, and can be
taken away without changing the draws of the others (which is what makes a failing seed shrinkable).

`Nature` is what the venue is and stays; `Faults` is how badly the world behaves and is all zero in the calm; `Load` is
what the sources and the operator do.
"""

from collections.abc import Callable
from random import Random

from msgspec import Struct
from msgspec.structs import asdict, replace


class Nature(Struct, frozen=True):
    """What the venue is. Seconds where not said otherwise."""

    id_unique_for_ever: bool = True
    spot: bool = False
    fee_asset: str = "quote"  # quote | base (spot buys) | third
    reduce_only_ends_when_flat: bool = False  # the venue cancels what can no longer reduce
    latency_min: float = 0.002  # one way
    latency_max: float = 0.040
    clock_offset: float = 0.0  # venue's clock against ours
    volatility: float = 0.0002  # fraction of price per step of the path
    partial: float = 0.0  # chance that an execution is cut in pieces
    timeout: float = 10.0  # a client waits this long for an answer
    horizon: float = 86_400.0  # queries know nothing of what ended longer ago


class Faults(Struct, frozen=True):
    """How the world misbehaves. Chances are per occasion; `*_mean` is seconds between events (0: never)."""

    connect_refused: float = 0.0
    request_lost: float = 0.0
    request_delayed: float = 0.0
    request_delay_max: float = 0.0
    queue_max: float = 0.0  # between the venue's gate and its book
    reply_lost: float = 0.0
    reply_delayed: float = 0.0
    reply_delay_max: float = 0.0
    error_with_effect: float = 0.0
    error_without_effect: float = 0.0
    garbled: float = 0.0  # a page of HTML or half an answer, whatever was done
    odd_words: float = 0.0  # real protocols only: an order's status is a word that nobody knows
    request_doubled: float = 0.0  # it arrives twice, and the second one's answer is what the client hears
    declined: float = 0.0
    rate_limited: float = 0.0
    rejected_later: float = 0.0  # acknowledged, then refused
    overtaken: float = 0.0  # the market leaps past a trigger while its order is on its way
    overfilled: float = 0.0  # an opener is executed for more than was asked
    filled_late: float = 0.0  # an opener is executed after its cancel was told
    ban_mean: float = 0.0  # the venue refuses every request and query for a while
    ban_max: float = 0.0
    restart_mean: float = 0.0  # the venue is away for moments, and then knows no order that has ended
    liquidation_mean: float = 0.0  # the venue closes a position, or a part of it, of its own accord
    dried_up: float = 0.0  # the rest of an order in pieces finds nobody and expires
    query_failed: float = 0.0
    visible_max: float = 0.0  # an accepted order or its fill shows in queries only after up to this
    list_holes: float = 0.0  # an open order missing from the list of open orders
    event_dropped: float = 0.0
    event_doubled: float = 0.0
    event_delay_max: float = 0.0  # reorders, too
    stream_cut_mean: float = 0.0
    stream_stall_mean: float = 0.0
    stream_refused: float = 0.0
    keys_lost_mean: float = 0.0  # real protocols only: what a private stream hangs on is no more
    human_mean: float = 0.0  # a person trades by hand
    human_cancel_mean: float = 0.0  # a person cancels one of our orders
    human_rest_mean: float = 0.0  # a person leaves a limit order in the book
    funding_mean: float = 0.0
    quote_stall_mean: float = 0.0
    source_again: float = 0.0  # a body is offered once more
    source_rewind: float = 0.0  # everything is offered once more
    source_contradicts: float = 0.0  # same id, other body
    source_garbage: float = 0.0
    sink_down: float = 0.0
    sink_away: float = 0.0  # 1: one of the two takes nothing before the calm
    disk_slow: float = 0.0  # chance that a sync takes long
    disk_slow_max: float = 0.0
    disk_breaks_mean: float = 0.0  # full, or a sync that fails
    torn: float = 0.0  # chance that a crash tears a commit that is not synced
    crash_mean: float = 0.0
    crash_at_boundary: float = 0.0  # per effect boundary
    halt_mean: float = 0.0
    freeze_mean: float = 0.0  # the process is stopped for a while
    freeze_max: float = 0.0
    rival_mean: float = 0.0  # a second engine is started on the same journal
    lease_seconds: float = 0.0  # two engines share the accounts, with leases of this length; 0: there is one


class Load(Struct, frozen=True):
    """What the sources send."""

    signals: int = 12
    gap_mean: float = 4.0
    burst: int = 1  # signals sent at one moment
    limit_share: float = 0.3
    close_share: float = 0.15
    manage_share: float = 0.1  # move a stop or target, reduce, cancel, be this position
    sell_share: float = 0.4
    faulty_seconds: float = 90.0
    skipped: tuple[int, ...] = ()  # signals, by number, that are drawn and not offered
    calm_seconds: float = 240.0


class Options(Struct, frozen=True):
    """Everything that a seed decides before the run."""

    seed: int
    nature: Nature = Nature()
    faults: Faults = Faults()
    load: Load = Load()
    families: tuple[str, ...] = ()
    spared: tuple[int, ...] = ()  # kills, by number, that are drawn and not carried out
    face: str = "memory"  # whose protocol the venue speaks; in memory: none, it is called as the adapters are
    dead: str = ""  # the channel that dies for ever after the calm (dead.CHANNELS)


Draw = Callable[[Random], dict[str, float]]

FAMILIES: dict[str, Draw] = {
    "refused connections": lambda r: {"connect_refused": r.uniform(0.01, 0.2)},
    "lost requests": lambda r: {"request_lost": r.uniform(0.02, 0.25)},
    "late requests": lambda r: {
        "request_delayed": r.uniform(0.05, 0.4),
        "request_delay_max": r.choice((1.0, 4.9, 8.0)),
    },
    "queueing": lambda r: {"queue_max": r.choice((0.5, 5.0, 25.0))},
    "lost replies": lambda r: {"reply_lost": r.uniform(0.05, 0.4)},
    "late replies": lambda r: {"reply_delayed": r.uniform(0.05, 0.4), "reply_delay_max": r.choice((0.5, 5.0, 20.0))},
    "server errors": lambda r: {
        "error_with_effect": r.uniform(0.02, 0.2),
        "error_without_effect": r.uniform(0.02, 0.2),
    },
    "unreadable answers": lambda r: {"garbled": r.uniform(0.02, 0.2)},
    "unknown words": lambda r: {"odd_words": r.uniform(0.02, 0.3)},
    "doubled requests": lambda r: {"request_doubled": r.uniform(0.02, 0.2)},
    "refusals": lambda r: {"declined": r.uniform(0.02, 0.2)},
    "rate limits": lambda r: {"rate_limited": r.uniform(0.02, 0.15)},
    "rejections after the acknowledgement": lambda r: {"rejected_later": r.uniform(0.02, 0.2)},
    "leaping markets": lambda r: {"overtaken": r.uniform(0.1, 0.5)},
    "thin books": lambda r: {"dried_up": r.uniform(0.1, 0.6)},
    "failing queries": lambda r: {"query_failed": r.uniform(0.05, 0.4)},
    "read lag": lambda r: {"visible_max": r.choice((1.0, 5.0, 15.0))},
    "holes in lists": lambda r: {"list_holes": r.uniform(0.02, 0.3)},
    "dropped events": lambda r: {"event_dropped": r.uniform(0.05, 0.4)},
    "doubled events": lambda r: {"event_doubled": r.uniform(0.05, 0.4)},
    "reordered events": lambda r: {"event_delay_max": r.choice((0.2, 2.0, 10.0))},
    "cut streams": lambda r: {"stream_cut_mean": r.choice((5.0, 30.0)), "stream_refused": r.uniform(0, 0.5)},
    "stalled streams": lambda r: {"stream_stall_mean": r.choice((20.0, 60.0))},
    "lost listen keys": lambda r: {"keys_lost_mean": r.choice((15.0, 40.0))},
    "a human": lambda r: {"human_mean": r.choice((15.0, 60.0)), "human_cancel_mean": r.choice((0.0, 20.0))},
    "funding": lambda r: {"funding_mean": 20.0},
    "overfills": lambda r: {"overfilled": r.uniform(0.05, 0.3)},
    "fills after the cancel": lambda r: {"filled_late": r.uniform(0.1, 0.6)},
    "bans": lambda r: {"ban_mean": r.choice((20.0, 60.0)), "ban_max": r.choice((3.0, 20.0, 40.0))},
    "venue restarts": lambda r: {"restart_mean": r.choice((15.0, 50.0))},
    "liquidations": lambda r: {"liquidation_mean": r.choice((10.0, 40.0))},
    "a human's resting orders": lambda r: {"human_rest_mean": r.choice((8.0, 30.0))},
    "stale quotes": lambda r: {"quote_stall_mean": r.choice((20.0, 60.0))},
    "redelivery": lambda r: {"source_again": r.uniform(0.1, 0.6), "source_rewind": r.uniform(0.0, 0.2)},
    "contradictions": lambda r: {"source_contradicts": r.uniform(0.05, 0.3)},
    "garbage": lambda r: {"source_garbage": r.uniform(0.05, 0.3)},
    "failing sinks": lambda r: {"sink_down": r.uniform(0.05, 0.5), "sink_away": r.choice((0.0, 0.0, 1.0))},
    "slow disk": lambda r: {"disk_slow": r.uniform(0.02, 0.3), "disk_slow_max": r.choice((0.1, 2.0, 10.0))},
    "torn commits": lambda r: {"torn": r.choice((0.5, 1.0))},
    "failing disk": lambda r: {"disk_breaks_mean": r.choice((15.0, 40.0))},
    "crashes at any time": lambda r: {"crash_mean": r.choice((5.0, 20.0, 60.0))},
    "crashes at boundaries": lambda r: {"crash_at_boundary": r.choice((0.002, 0.01, 0.03))},
    "frozen engines": lambda r: {"freeze_mean": r.choice((10.0, 30.0)), "freeze_max": r.choice((2.0, 15.0, 60.0))},
    "second engines": lambda r: {"rival_mean": r.choice((10.0, 30.0))},
    "halts": lambda r: {"halt_mean": r.choice((5.0, 15.0, 40.0))},
    "two engines": lambda r: {"lease_seconds": r.choice((2.0, 5.0, 10.0))},
}
CHANNELS = (
    "the private stream",
    "what the stream says",
    "queries",
    "order entry",
    "the source",
    "the sink",
    "the disk",
)
FACED = 0.2  # of the seeds speak a real venue's protocol
OF_PROTOCOLS = ("unreadable answers", "unknown words", "lost listen keys")  # families that a plain call does not know
FACES = ("bybit", "binance-spot", "binance-usdm")
# A journal that two engines share is on a server: no kill tears its log, and who comes second stands by. Without it
# nothing may be sent at all, not even what protects; its own failures are looked for with real servers.
OF_A_DISK = ("failing disk", "torn commits", "second engines")
DIES = 0.35  # of the seeds, one of them
TWO = 0.15  # of the seeds have two engines: the others keep what they had
ON = 0.4  # of the families, in a seed that is not quiet


def draw(seed: int) -> Options:
    """The options of a seed; the same for ever (each part has its own generator)."""
    nature_draws = Random(f"{seed}/nature")
    share = Random(f"{seed}/families").choice((0.1, ON, ON, ON, 0.6))
    # A coin for each name, so that a new family changes no other's: yesterday's seeds keep what they had.
    shares = {"two engines": TWO}
    on = tuple(name for name in FAMILIES if Random(f"{seed}/coin/{name}").random() < shares.get(name, share))
    if "two engines" in on:
        on = tuple(name for name in on if name not in OF_A_DISK)
    dead = Random(f"{seed}/dead")
    drawn = Random(f"{seed}/face")
    face = drawn.choice(FACES) if drawn.random() < FACED else "memory"
    if face == "memory":
        on = tuple(name for name in on if name not in OF_PROTOCOLS)
    options = Options(
        seed=seed,
        face=face,
        nature=_nature(nature_draws),
        load=_load(Random(f"{seed}/load")),
        dead=dead.choice(CHANNELS) if dead.random() < DIES else "",
    )
    if "two engines" in on and options.dead == "the disk":
        options = replace(options, dead="")
    return with_families(options, on)


def with_families(options: Options, on: tuple[str, ...]) -> Options:
    """The same seed with exactly these families on."""
    fields: dict[str, float] = {}
    for name in on:
        fields |= FAMILIES[name](Random(f"{options.seed}/family/{name}"))
    return replace(options, faults=Faults(**fields), families=on)


def owned(name: str) -> tuple[str, ...]:
    """The fields of `Faults` that a family sets."""
    return tuple(FAMILIES[name](Random(0)))


def describe(options: Options) -> str:
    """All that differs from the quiet default, for the report."""
    parts = [f"seed {options.seed}"]
    for name in options.families:
        rates = ", ".join(f"{field} {getattr(options.faults, field):.3g}" for field in owned(name))
        parts.append(f"  family {name}: {rates}")
    if not options.families:
        parts.append("  no family of faults")
    if options.face != "memory":
        parts.append(f"  the shipped adapter, by the protocol of {options.face}")
    if options.spared:
        parts.append(f"  without the kills {', '.join(map(str, options.spared))}")
    if options.dead:
        parts.append(f"  after the calm dies for ever: {options.dead}")
    for part in (options.nature, options.load, options.faults):
        usual = asdict(type(part)())
        told = " ".join(
            f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in asdict(part).items() if v != usual[k]
        )
        parts.append(f"{type(part).__name__}: {told or 'as usual'}")
    return "\n".join(parts)


def _nature(r: Random) -> Nature:
    spot = r.random() < 0.35
    return Nature(
        id_unique_for_ever=r.random() < 0.5,
        spot=spot,
        fee_asset=r.choice(("quote", "base", "base")) if spot else r.choice(("quote", "quote", "third")),
        reduce_only_ends_when_flat=r.random() < 0.5,
        latency_max=r.choice((0.005, 0.04, 0.3)),
        clock_offset=r.choice((0.0, 0.0, 0.3, -0.3)),
        volatility=r.choice((0.00005, 0.0003, 0.001)),
        partial=r.choice((0.0, 0.3, 0.8)),
    )


def _load(r: Random) -> Load:
    return Load(
        signals=r.choice((4, 10, 20)),
        gap_mean=r.choice((1.0, 4.0, 8.0)),
        burst=r.choice((1, 1, 2, 6)),
        limit_share=r.choice((0.0, 0.3, 0.7)),
        close_share=r.choice((0.0, 0.1, 0.25)),
        manage_share=r.choice((0.0, 0.1, 0.3)),
        faulty_seconds=r.choice((30.0, 60.0, 120.0)),
    )


def suited(nature: Nature, face: str) -> Nature:
    """What a real venue is by its own rules is not drawn."""
    match face:
        case "bybit":
            fee = "base" if nature.spot else "quote"
            return replace(nature, id_unique_for_ever=True, fee_asset=fee, reduce_only_ends_when_flat=False)
        case "binance-spot":
            ours = replace(nature, spot=True, id_unique_for_ever=False, reduce_only_ends_when_flat=False)
            return replace(ours, fee_asset="third" if nature.fee_asset == "third" else "base")
        case "binance-usdm":
            fee = "third" if nature.fee_asset == "third" else "quote"
            return replace(nature, spot=False, id_unique_for_ever=False, fee_asset=fee)
    return nature
