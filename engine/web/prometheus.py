"""What was counted, as Prometheus text. Pure: snapshots in, bytes out.

Stages are summaries with the HDR histograms' own percentiles, in seconds. Floats are right here: nothing is booked
from a metric.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.messages import ZERO, Position
from engine.core.position import net as earned_net
from engine.core.tally import StageFigures, TallySnapshot
from engine.web.ports import Health, ShardHealth

CONTENT_TYPE = "text/plain; version=0.0.4"


class Sight(Struct, frozen=True):
    """Everything one scrape shows."""

    tally: TallySnapshot
    health: Health
    positions: tuple[Position, ...]
    unrealised: dict[tuple[str, str], Decimal]  # quote, by account and symbol, where there is a quote
    turned_away: dict[str, int] = {}  # requests of the API, by reason


def render(sight: Sight) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(sight))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def collect(self) -> Iterable[Metric]:
        yield from _stages(self._sight.tally)
        yield from _counters(self._sight.tally)
        yield from _health(self._sight.health)
        yield from _journal(self._sight.health)
        yield from _positions(self._sight)
        turned_away = self._sight.turned_away
        yield _counted("surefire_api_turned_away", "Requests not let in, by reason.", "reason", turned_away)


def _stages(tally: TallySnapshot) -> Iterator[Metric]:
    summary = Metric("surefire_stage_seconds", "Time from one moment of an order's way to another.", "summary")
    longest = _gauge("surefire_stage_max_seconds", "Longest time since the start.", ["stage"])
    clamped = _counter("surefire_stage_clamped", "Times outside 0 to ten minutes, counted at the border.", ["stage"])
    for name, figures in tally.stages.items():
        for quantile, value_ns in _quantiles(figures):
            summary.add_sample("surefire_stage_seconds", {"stage": name, "quantile": quantile}, value_ns / 1e9)
        summary.add_sample("surefire_stage_seconds_count", {"stage": name}, figures.count)
        summary.add_sample("surefire_stage_seconds_sum", {"stage": name}, figures.sum_ns / 1e9)
        longest.add_metric([name], figures.max_ns / 1e9)
        clamped.add_metric([name], figures.clamped)
    yield from (summary, longest, clamped)


def _quantiles(figures: StageFigures) -> Sequence[tuple[str, int]]:
    if not figures.count:
        return ()
    return (
        ("0.5", figures.p50_ns),
        ("0.9", figures.p90_ns),
        ("0.99", figures.p99_ns),
        ("0.999", figures.p999_ns),
    )


def _counters(tally: TallySnapshot) -> Iterator[Metric]:
    yield _counted("surefire_facts", "Facts written, by type.", "fact", tally.facts)
    yield _counted("surefire_verdicts", "Signals judged, by outcome.", "outcome", tally.verdicts)
    yield _counted("surefire_refusals", "Checks that failed, by rule.", "rule", tally.refusals)
    yield _counted("surefire_orders_ended", "Orders that ended, by how.", "ending", tally.endings)
    alerts = _counter("surefire_alerts", "Alerts raised.", ["severity", "kind"])
    for name, count in tally.alerts.items():
        severity, _, kind = name.partition("/")
        alerts.add_metric([severity, kind], count)
    fills = _counter("surefire_fills", "Executions booked.", ["account", "symbol"])
    turnover = _counter("surefire_fills_quote", "Quote currency traded.", ["account", "symbol"])
    for fill in tally.fills:
        fills.add_metric([fill.account, fill.symbol], fill.count)
        turnover.add_metric([fill.account, fill.symbol], float(fill.quote))
    stalls = _counter("surefire_loop_stalls", "Times the event loop was late beyond the threshold.", [])
    stalls.add_metric([], tally.stalls)
    dropped = _counter("surefire_metrics_dropped", "Messages the metrics had no room for.", [])
    dropped.add_metric([], tally.dropped)
    yield from (alerts, fills, turnover, stalls, dropped)


def _health(health: Health) -> Iterator[Metric]:
    ready = _gauge("surefire_ready", "1 when the engine is live, protective-ready, entry-ready.", ["kind"])
    ready.add_metric(["live"], health.live)
    ready.add_metric(["protective"], health.protective_ready)
    ready.add_metric(["entry"], health.entry_ready)
    component = _gauge("surefire_component_ok", "1 when the component does its work.", ["component"])
    lags = {
        "source": _gauge("surefire_source_lag", "Messages that wait to be read.", ["source"]),
        "sink": _gauge("surefire_sink_lag", "Events that wait to be taken.", ["sink"]),
    }
    for part in health.components:
        component.add_metric([part.name], part.ok)
        if part.lag is not None:
            kind, _, name = part.name.partition("/")
            lags[kind].add_metric([name], part.lag)
    halts = _gauge("surefire_halt", "1 for each halt in force.", ["scope", "by"])
    for halt in health.halts:
        halts.add_metric([halt.scope, halt.by], 1)
    halted = _gauge("surefire_halts", "Halts in force.", [])
    halted.add_metric([], len(health.halts))
    streams = _gauge("surefire_stream_up", "1 when the account's private stream is up.", ["account"])
    for stream in health.streams:
        streams.add_metric([stream.account], stream.up)
    used = _gauge("surefire_channel_used", "Messages waiting in a mailbox.", ["channel"])
    size = _gauge("surefire_channel_size", "Messages a mailbox has room for.", ["channel"])
    for channel in health.channels:
        used.add_metric([channel.name], channel.used)
        size.add_metric([channel.name], channel.size)
    uptime = _gauge("surefire_uptime_seconds", "Since the engine started.", [])
    uptime.add_metric([], health.uptime_ns / 1e9)
    build = InfoMetricFamily("surefire_build", "What is running.")
    build.add_metric([], {"version": health.build, "durability": health.durability})
    yield from (ready, component, *lags.values(), halts, halted, streams, used, size, uptime, build)
    if health.shards:
        yield from _shards(health.shards)


def _shards(shards: Sequence[ShardHealth]) -> Iterator[Metric]:
    held = _gauge("surefire_shard_held", "1 while this engine holds the shard of accounts.", ["shard"])
    epoch = _gauge("surefire_shard_epoch", "Epoch of the lease, while it is held here.", ["shard"])
    left = _gauge("surefire_shard_lease_seconds", "Until the lease ends, unless it is renewed.", ["shard"])
    orphan = _gauge("surefire_shard_without_holder", "1 while no engine that is alive holds or wants it.", ["shard"])
    letters = _gauge("surefire_inbox_waiting", "Signals that wait for the shard's holder on the server.", ["shard"])
    for shard in shards:
        held.add_metric([shard.name], shard.state in ("held", "ending"))
        if shard.epoch:
            epoch.add_metric([shard.name], shard.epoch)
            left.add_metric([shard.name], shard.lease_seconds)
        orphan.add_metric([shard.name], not shard.holder and shard.state != "waiting")
        letters.add_metric([shard.name], shard.letters)
    yield from (held, epoch, left, orphan, letters)


def _journal(health: Health) -> Iterator[Metric]:
    stats = health.journal
    seq = _gauge("surefire_journal_seq", "Number of the last fact, appended and durable.", ["state"])
    seq.add_metric(["appended"], stats.seq)
    seq.add_metric(["durable"], stats.durable_seq)
    commits = _counter("surefire_journal_commits", "Commits of the journal.", [])
    commits.add_metric([], stats.commits)
    commit = _gauge("surefire_journal_commit_seconds", "How long a commit took, the last and the longest.", ["which"])
    commit.add_metric(["last"], stats.commit_last_ns / 1e9)
    commit.add_metric(["max"], stats.commit_max_ns / 1e9)
    size = _gauge("surefire_journal_bytes", "Size of the journal on the disk.", [])
    size.add_metric([], stats.size_bytes)
    outbox = _gauge("surefire_outbox_waiting", "Events that the sink furthest behind has still to get.", [])
    outbox.add_metric([], stats.outbox_waiting)
    failed = _gauge("surefire_journal_failed", "1 when the journal takes no more.", [])
    failed.add_metric([], bool(stats.failed))
    yield from (seq, commits, commit, size, outbox, failed)


def _positions(sight: Sight) -> Iterator[Metric]:
    labels = ["account", "symbol"]
    held = _gauge("surefire_position_qty", "Signed base quantity held; no series while flat.", labels)
    net = _gauge("surefire_account_net_quote", "Earned so far after fees and funding, all symbols.", ["account"])
    unrealised = _gauge("surefire_position_unrealised_quote", "At the mark, before fees.", labels)
    uncovered = _gauge("surefire_position_uncovered", "1 while a stop that is due is missing.", labels)
    for account, earned in _nets(sight.positions).items():
        net.add_metric([account], float(earned))
    # Flat ones are left out: an account may have held thousands of symbols, and a scrape stops the loop while it lasts.
    for position in (p for p in sight.positions if p.qty):
        key = (position.account, position.symbol)
        held.add_metric(key, float(position.qty))
        uncovered.add_metric(key, bool(position.uncovered_ns))
        if key in sight.unrealised:
            unrealised.add_metric(key, float(sight.unrealised[key]))
    yield from (held, net, unrealised, uncovered)


def _nets(positions: Iterable[Position]) -> dict[str, Decimal]:
    nets: dict[str, Decimal] = {}
    for position in positions:
        nets[position.account] = nets.get(position.account, ZERO) + earned_net(position)
    return nets


def _counted(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = _counter(name, text, [label])
    for key, count in counts.items():
        family.add_metric([key], count)
    return family


def _counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)  # no `created`: one series more for each, and nobody reads it


def _gauge(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)
