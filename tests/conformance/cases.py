"""The cases, in the order of their numbers. Each is a story with one rule; a new one goes to the end, numbers stay."""

from collections.abc import Awaitable, Callable
from decimal import Decimal

from msgspec import Struct

from engine.core.ids import is_ours
from engine.core.messages import (
    Acked,
    Failed,
    FundingReport,
    InstrumentKind,
    NotFound,
    Order,
    OrderType,
    Rejection,
    Silence,
    TimeInForce,
    TransferReport,
)
from engine.core.money import step_ceiling
from tests.conformance.bench import Bench, Broken, NotOffered, Skip, Trouble, refused, same

D = Decimal
BURST = 15  # orders, more than a second's worth of the bucket that the kit is run with


class Case(Struct, frozen=True):
    number: int
    name: str
    run: Callable[[Bench], Awaitable[None]]
    faults: bool = False  # needs them, or a market of our own


# --------------------------------------------------------------------------------------------------------------- orders


async def market_order(b: Bench) -> None:
    async with b.listening() as ear:
        order = b.market("market")
        await b.accepted(order)
        report = await b.ended(order, "filled")
        same(report.filled_qty, order.qty, "filled")
        await b.until(lambda: sum(f.qty for f in ear.fills(order.cid)) >= order.qty, "the stream told of no fill")
        told = {(f.exec_id, f.qty, f.price, f.fee, f.fee_asset) for f in ear.fills(order.cid)}
        listed = {(f.exec_id, f.qty, f.price, f.fee, f.fee_asset) for f in await b.fills(order)}
        same(told, listed, "the stream and the list tell different executions")


async def limit_gtc(b: Bench) -> None:
    order = b.limit("gtc")
    await b.accepted(order)
    report = await b.find(order)
    same((report.status, report.price, report.qty, report.filled_qty), ("open", order.price, order.qty, D(0)), "GTC")
    same(order.cid in await b.open_cids(), True, "a resting order is not among the open ones")
    same(is_ours(report.cid), True, "the id lost the engine's mark on its way")
    await b.cancel(order)
    await b.ended(order, "canceled")
    same(order.cid in await b.open_cids(), False, "a canceled order is among the open ones")


async def limit_ioc(b: Bench) -> None:
    order = b.limit("ioc", tif=TimeInForce.IOC)
    answer = await b.submit(order)
    if isinstance(answer, Rejection):
        return same(b.venue is not None and await b.open_cids(), [], "refused, and yet something rests")
    report = await b.ended(order, "expired", "canceled")
    return same(report.filled_qty, D(0), "an IOC order away from the market was filled")


async def limit_fok(b: Bench) -> None:
    if not b.offers.fill_or_kill:
        raise NotOffered("fill-or-kill")
    order = b.limit("fok", tif=TimeInForce.FOK)
    if isinstance(await b.submit(order), Acked):
        same((await b.ended(order, "expired", "canceled")).filled_qty, D(0), "a FOK order was filled in part")
    same(await b.fills(order), [], "executions of an order that must fill whole or not at all")


async def post_only(b: Bench) -> None:
    if not b.offers.post_only:
        raise NotOffered("post-only")
    taking = b.limit("post-takes", b.across(), tif=TimeInForce.POST_ONLY)
    answer = await b.submit(taking)
    if isinstance(answer, Acked):
        same((await b.ended(taking, "canceled", "expired", "rejected")).filled_qty, D(0), "a post-only order took")
    else:
        refused(answer, "invalid")
    resting = b.limit("post-rests", tif=TimeInForce.POST_ONLY)
    await b.accepted(resting)
    same((await b.find(resting)).status, "open", "a post-only order away from the market")


async def stop_rests(b: Bench) -> None:
    stop = b.stop("stop")
    await b.accepted(b.market("held"))
    await b.position()
    await b.accepted(stop)
    report = await b.find(stop)
    same((report.status, report.order_type), ("open", OrderType.STOP_MARKET), "a stop")
    same(report.trigger_price, stop.trigger_price, "its trigger")
    same(stop.cid in await b.open_cids(), True, "a stop that waits is not among the open orders")
    await b.cancel(stop, report.venue_order_id)
    await b.ended(stop, "canceled")


async def stop_triggers(b: Bench) -> None:
    b.needs_faults()
    stop = b.stop("stop")
    hand = b.hand
    await b.accepted(b.market("held"))
    await b.accepted(stop)
    before = hand.position()
    assert stop.trigger_price is not None
    hand.show(stop.trigger_price - 10, stop.trigger_price - 9, D(50))
    hand.trade(stop.trigger_price - 10)
    await b.ended(stop, "filled")
    same(hand.position(), before - stop.qty, "the position behind a stop that was reached")
    same([f.cid for f in await b.fills(stop)], [stop.cid], "whose execution it is")


async def amend(b: Bench) -> None:
    if b.offers.amend is None:
        raise NotOffered("amend")
    order = b.limit("amend")
    await b.accepted(order)
    answer = await b.offers.amend(b.venue, order, b.unit)
    same(isinstance(answer, Acked), True, f"the amendment was not accepted: {answer}")
    report = await b.settled(order, lambda r: r.qty == b.unit)
    same((report.status, report.cid), ("open", order.cid), "the amended order")


async def cancel_all(b: Bench) -> None:
    if b.offers.cancel_all is None:
        raise NotOffered("cancel-all")
    if await b.answered(b.venue.open_orders()):
        raise Skip("there are orders that are not the kit's, and it would cancel them, too")
    orders = [b.limit(f"all-{n}") for n in range(3)]
    for order in orders:
        await b.accepted(order)
    answer = await b.offers.cancel_all(b.venue, b.instrument.symbol)
    same(isinstance(answer, Acked), True, f"cancel-all was not accepted: {answer}")
    for order in orders:
        await b.ended(order, "canceled")


async def batch(b: Bench) -> None:
    if b.offers.batch is None:
        raise NotOffered("batch")
    off_step = b.limit("batch-odd", b.away() + b.instrument.tick / 2)
    orders = (b.limit("batch-0"), off_step, b.limit("batch-1"))
    b.sent |= {order.cid: order for order in orders}
    answers = await b.offers.batch(b.venue, orders)
    same([type(a) for a in answers], [Acked, Rejection, Acked], "one answer for each of a batch")
    same(sorted(await b.open_cids()), sorted((orders[0].cid, orders[2].cid)), "what the batch left open")


async def off_step(b: Bench) -> None:
    if not b.offers.exact:
        raise NotOffered("it is rounded on its way")
    tick, lot = b.instrument.tick, b.instrument.lot
    for name, order in (
        ("price", b.limit("off-tick", b.away() + tick / 2)),
        ("quantity", b.limit("off-lot", qty=2 * b.unit + lot / 2)),
    ):
        answer = await b.submit(order)
        if isinstance(answer, Acked):
            raise Broken(f"a {name} off its step was accepted as {await b.look(order)}")
        refused(answer, "invalid", "unsent")
    same(await b.open_cids(), [], "what was off its step rests")


async def too_small(b: Bench) -> None:
    instrument = b.instrument
    if instrument.qty_min * b.away() >= instrument.notional_min:
        raise Skip("the smallest quantity is worth more than the smallest value")
    answer = await b.submit(b.limit("small", qty=instrument.qty_min))
    refused(answer, "invalid")
    same(await b.open_cids(), [], "an order under the smallest value rests")


async def too_large(b: Bench) -> None:
    qty = step(b, b.instrument.qty_max)
    refused(await b.submit(b.limit("large", qty=qty)), "insufficient", "invalid")
    same(await b.open_cids(), [], "an order beyond the account's means rests")


# ------------------------------------------------------------------------------------------------------------------ ids


async def duplicate_while_open(b: Bench) -> None:
    order = b.limit("twice")
    await b.accepted(order)
    refused(await b.submit(order), "duplicate")
    same((await b.open_cids()).count(order.cid), 1, "orders under one id")


async def duplicate_after_end(b: Bench) -> None:
    if not b.venue.traits.id_unique_for_ever:
        raise NotOffered("an id guards only while its order is open; the adapter says so, and nothing is re-sent")
    order = b.market("again")
    await b.accepted(order)
    await b.ended(order, "filled")
    refused(await b.submit(order), "duplicate")
    same(sum(f.qty for f in await b.fills(order)), order.qty, "executed under one id")


# ---------------------------------------------------------------------------------------------------------------- doubt


async def answer_lost_order_lives(b: Bench) -> None:
    order = b.limit("lived")
    with b.trouble(Trouble.LOST_REPLY, "submit"):
        in_doubt(await b.submit(order))
    same((await b.find(order)).status, "open", "an order whose answer was lost")
    same((b.hand.orders(order.cid), b.wired), (1, 1), "sent and taken, each once")


async def request_lost(b: Bench) -> None:
    order = b.limit("died")
    with b.trouble(Trouble.LOST_REQUEST, "submit"):
        in_doubt(await b.submit(order))
    same(await b.look(order), NotFound(order.cid), "an order that never arrived")
    same((b.hand.orders(order.cid), b.wired), (0, 1), "taken and sent")


async def answer_cut_off(b: Bench) -> None:
    await in_doubt_and_lives(b, Trouble.CUT_OFF)


async def answer_is_a_page(b: Bench) -> None:
    await in_doubt_and_lives(b, Trouble.PAGE)


async def ambiguous_code(b: Bench) -> None:
    await in_doubt_and_lives(b, Trouble.UNSURE)


async def unknown_code(b: Bench) -> None:
    await in_doubt_and_lives(b, Trouble.UNKNOWN_CODE)


async def in_doubt_and_lives(b: Bench, trouble: Trouble) -> None:
    order = b.limit("unsure")
    with b.trouble(trouble, "submit"):
        in_doubt(await b.submit(order))
    same((await b.find(order)).status, "open", "the order behind it")
    same(b.hand.orders(order.cid), 1, "orders under one id")


async def cancel_answer_lost(b: Bench) -> None:
    b.needs_faults()
    order = b.limit("cancel-done")
    await b.accepted(order)
    with b.trouble(Trouble.LOST_REPLY, "cancel"):
        in_doubt(await b.cancel(order))
    await b.ended(order, "canceled")


async def cancel_lost(b: Bench) -> None:
    b.needs_faults()
    order = b.limit("cancel-undone")
    await b.accepted(order)
    with b.trouble(Trouble.LOST_REQUEST, "cancel"):
        in_doubt(await b.cancel(order))
    same((await b.find(order)).status, "open", "an order whose cancel never arrived")
    await b.cancel(order)
    await b.ended(order, "canceled")


async def amend_answer_lost(b: Bench) -> None:
    if b.offers.amend is None:
        raise NotOffered("amend")
    b.needs_faults()
    order = b.limit("amend-lost")
    await b.accepted(order)
    with b.trouble(Trouble.LOST_REPLY, "amend"):
        in_doubt(await b.offers.amend(b.venue, order, b.unit))
    same((await b.find(order)).qty, b.unit, "the quantity behind an amendment whose answer was lost")
    with b.trouble(Trouble.LOST_REQUEST, "amend"):
        in_doubt(await b.offers.amend(b.venue, order, b.instrument.lot + b.unit))
    same((await b.find(order)).qty, b.unit, "the quantity behind an amendment that never arrived")


async def batch_answer_lost(b: Bench) -> None:
    if b.offers.batch is None:
        raise NotOffered("batch")
    for trouble, count in ((Trouble.LOST_REPLY, 1), (Trouble.LOST_REQUEST, 0), (Trouble.CUT_OFF, 1)):
        orders = tuple(b.limit(f"{trouble.name}-{n}") for n in range(2))
        with b.trouble(trouble, "batch"):
            answers = await b.offers.batch(b.venue, orders)
        for order, answer in zip(orders, answers, strict=True):
            in_doubt(answer)
            same(b.hand.orders(order.cid), count, "orders under one id of a batch in doubt")


# -------------------------------------------------------------------------------------------------------- error classes


async def class_retry(b: Bench) -> None:
    order = b.limit("retry")
    with b.trouble(Trouble.RETRY, "submit"):
        refused(await b.submit(order), "unavailable", "rate_limited", "not_sent")
    same(b.hand.orders(order.cid), 0, "placed by a request that may be tried again")
    await b.accepted(order)


async def class_reject(b: Bench) -> None:
    order = b.limit("reject")
    with b.trouble(Trouble.REJECT, "submit"):
        refused(await b.submit(order), "invalid", "insufficient")
    same(b.hand.orders(order.cid), 0, "placed by a request that was refused")


async def class_halt(b: Bench) -> None:
    if not b.offers.keys:
        raise NotOffered("no keys")
    with b.trouble(Trouble.HALT, "submit"):
        refused(await b.submit(b.limit("halt")), "auth")


async def limiters_no(b: Bench) -> None:
    order, before_ns = b.limit("limited"), b.now_ns()
    with b.trouble(Trouble.LIMITED, "submit"):
        answer = await b.submit(order)
    if not isinstance(answer, Silence):  # where the venue does not say that it is certain, doubt is right
        refused(answer, "rate_limited")
    same(b.hand.orders(order.cid), 0, "placed by a request that a limiter refused")
    if b.throttle is not None:
        same(b.throttle.ban.until_ns > before_ns, True, "after a limiter's no the door stays open")


async def burst(b: Bench) -> None:
    if b.throttle is None:
        raise NotOffered("no rate limits")
    for n in range(BURST):
        await b.accepted(b.limit(f"burst-{n}"))
    same(len(await b.open_cids()), BURST, "orders of a burst")


async def wrong_key(b: Bench) -> None:
    if not b.offers.keys:
        raise NotOffered("no keys")
    venue = await b.restart(key="reader")
    refused(await b.submit(b.limit("reader")), "auth")
    if not b.offers.rights:
        raise NotOffered("what a key may do is not told: it is found out by a refusal")
    remarks = await b.answered(venue.look_over(False))
    same(any(not remark.ok for remark in remarks), True, "a key that may not trade is let in")
    venue = await b.restart(key="drawer")
    remarks = await b.answered(venue.look_over(False))
    same(any(not r.ok and "withdraw" in r.text for r in remarks), True, "a key that may withdraw is let in")
    remarks = await b.answered(venue.look_over(True))
    same([r.text for r in remarks if not r.ok], [], "a key that may withdraw, and was allowed to")


# ------------------------------------------------------------------------------------------------------ lives of orders


async def partial_then_cancel(b: Bench) -> None:
    hand, (bid, ask) = b.hand, b.quote()
    hand.show(bid, ask, b.unit)
    order = b.limit("partial", ask)
    await b.accepted(order)
    report = await b.settled(order, lambda r: r.filled_qty > 0)
    same((report.status, report.filled_qty), ("open", b.unit), "a partial fill")
    await b.cancel(order, report.venue_order_id)
    report = await b.ended(order, "canceled")
    same(report.filled_qty, b.unit, "what was filled before the cancel")
    same(sum(f.qty for f in await b.fills(order)), b.unit, "its executions")


async def cancel_after_fill(b: Bench) -> None:
    order = b.market("filled")
    await b.accepted(order)
    await b.ended(order, "filled")
    refused(await b.cancel(order), "not_found")
    same((await b.find(order)).status, "filled", "an order that was filled before its cancel")


async def reject_after_ack(b: Bench) -> None:
    b.needs_faults()
    async with b.listening() as ear:
        order = b.limit("later")
        with b.trouble(Trouble.REJECT_LATER, "submit"):
            same(isinstance(await b.submit(order), Acked), True, "it was not acknowledged")
        report = await b.ended(order, "rejected", "canceled", "expired")
        same(report.filled_qty, D(0), "filled of a rejected order")
        if b.offers.pushed:
            await b.until(
                lambda: set(ear.statuses(order.cid)) - {"open"}, "the stream did not tell that it was rejected"
            )
        same(await b.open_cids(), [], "a rejected order is open")


async def restart(b: Bench) -> None:
    resting, taking = b.limit("rests"), b.market("took")
    await b.accepted(resting)
    await b.accepted(taking)
    await b.ended(taking, "filled")
    before = [(f.exec_id, f.cid) for f in await b.fills()]
    await b.restart()
    same(await b.open_cids(), [resting.cid], "open orders after a restart")
    same((await b.find(resting)).status, "open", "an order of before the restart")
    same((await b.find(taking)).status, "filled", "an order that ended before the restart")
    same([(f.exec_id, f.cid) for f in await b.fills()], before, "executions of before the restart")
    await b.cancel(resting)
    await b.ended(resting, "canceled")


# -------------------------------------------------------------------------------------------------------------- streams


async def stream_dropped(b: Bench) -> None:
    if not b.offers.pushed:
        raise NotOffered("there is no stream: the venue is asked for what is new")
    b.needs_faults()
    async with b.listening() as ear:
        b.hand.drop_streams()
        await b.until(lambda: ear.down, "a stream that was dropped is not down")
    missed = b.market("missed")
    await b.accepted(missed)
    async with b.listening() as ear:
        heard = b.market("heard")
        await b.accepted(heard)
        await b.until(lambda: ear.fills(heard.cid), "a stream that came back tells nothing")
        same({f.cid for f in await b.fills()}, {missed.cid, heard.cid}, "the executions of before and after")


async def stream_silent(b: Bench) -> None:
    if not b.offers.pushed:
        raise NotOffered("there is no stream: the venue is asked for what is new")
    b.needs_faults()
    async with b.listening() as ear:
        b.hand.silence_streams()
        order = b.market("unheard")
        await b.accepted(order)
        await b.ended(order, "filled")
        same(sum(f.qty for f in await b.fills(order)), order.qty, "what a silent stream withheld")
        same(ear.fills(), [], "the stream was silent")


async def stream_doubled(b: Bench) -> None:
    if not b.offers.pushed:
        raise NotOffered("there is no stream: the venue is asked for what is new")
    b.needs_faults()
    async with b.listening() as ear:
        b.hand.repeat_reports()
        order = b.market("doubled")
        await b.accepted(order)
        await b.until(lambda: len(ear.fills(order.cid)) > 1, "the venue did not repeat itself")
        same({f.exec_id for f in ear.fills(order.cid)}, {f.exec_id for f in await b.fills(order)}, "ids of executions")


async def late_in_queries(b: Bench) -> None:
    b.needs_faults()
    b.hand.hide(3600)
    order = b.limit("hidden")
    await b.accepted(order)
    same(await b.look(order), NotFound(order.cid), "an order that does not show yet")
    b.hand.hide(0)
    same((await b.find(order)).status, "open", "the same order later")


# ------------------------------------------------------------------------------------------------------ foreign writers


async def foreign_order(b: Bench) -> None:
    given = await b.hand.act_as_another(b.limit("foreign"))
    reports = await b.answered(b.venue.open_orders())
    same([is_ours(r.cid) for r in reports], [False], f"a foreign order ({given}) is not told from our own")


async def foreign_fill(b: Bench) -> None:
    async with b.listening() as ear:
        await b.hand.act_as_another(b.market("foreign"))
        await b.until(lambda: ear.fills(), "the stream does not tell of a foreign execution")
        same([is_ours(f.cid) for f in ear.fills()], [False], "a foreign execution is taken for ours")
        same([f.exec_id for f in await b.fills()], [f.exec_id for f in ear.fills()], "its id in the list")


async def liquidation(b: Bench) -> None:
    if b.instrument.kind is InstrumentKind.SPOT:
        raise NotOffered("nothing is liquidated on spot")
    if not b.offers.liquidations:
        raise NotOffered("only ordinary executions are told; the position that is not ours shows it")
    b.needs_faults()
    await b.accepted(b.market("held"))
    async with b.listening() as ear:
        b.hand.liquidate()
        await b.until(lambda: [f for f in ear.fills() if f.cid not in b.sent], "the stream tells of no liquidation")
        same([is_ours(f.cid) for f in ear.fills() if f.cid not in b.sent], [False], "a liquidation is taken for ours")
    same(await b.position(), D(0), "the position after a liquidation")


async def funding(b: Bench) -> None:
    if b.instrument.kind is InstrumentKind.SPOT:
        raise NotOffered("nothing is funded on spot")
    b.needs_faults()
    order = b.market("held")
    await b.accepted(order)
    await b.ended(order, "filled")
    before = {r.asset: r.total for r in b.hand.balances()}
    b.hand.fund(D("0.0001"))
    moved = {r.asset: r.total - before[r.asset] for r in b.hand.balances() if r.total != before[r.asset]}
    paid: dict[str, tuple[str, Decimal]] = {}
    for _ in range(2):  # asked for again it is the same one, or none
        told = await b.answered(b.venue.fills(b.began_ns - 10**9))
        paid |= {r.funding_id: (r.asset, r.amount) for r in told if isinstance(r, FundingReport)}
    same(list(paid.values()), list(moved.items()), "what was paid for holding")


async def transfer(b: Bench) -> None:
    """In and out, each once, as the venue has written it down; and the balances are what they make them."""
    if not b.offers.transfers:
        raise NotOffered("a transfer shows in the balances alone")
    b.needs_faults()
    quote = b.instrument.quote
    async with b.listening() as ear:
        before = {r.asset: r.total for r in await b.answered(b.venue.balances())}
        b.hand.transfer(quote, D("250.5"))
        b.hand.transfer(quote, D(-100))
        order = b.limit("heard-after")  # what the stream told before it has come by then
        await b.accepted(order)
        await b.until(lambda: ear.statuses(order.cid), "the stream does not tell of an order")
        told: dict[str, TransferReport] = {}
        for _ in range(2):
            told |= {r.transfer_id: r for r in await b.answered(b.venue.transfers(b.began_ns - 10**9))}
        same(sorted((r.asset, r.amount) for r in told.values()), [(quote, D(-100)), (quote, D("250.5"))], "transfers")
        after = {r.asset: r.total for r in await b.answered(b.venue.balances())}
        same(after[quote] - before[quote], D("150.5"), "what they changed")


# ------------------------------------------------------------------------------------------------------------ questions


async def balances(b: Bench) -> None:
    b.needs_faults()
    await b.accepted(b.market("spent"))
    found = {r.asset: r.total for r in await b.answered(b.venue.balances())}
    same(b.instrument.quote in found, True, f"nothing is said of {b.instrument.quote}")
    wanted = {r.asset: r.total for r in b.hand.balances() if r.total or r.asset in found}
    same({asset: found.get(asset, D(0)) for asset in wanted}, wanted, "balances")


async def positions(b: Bench) -> None:
    before = await b.position()
    order = b.market("bought")
    await b.accepted(order)
    await b.ended(order, "filled")
    paid = sum((f.fee for f in await b.fills(order) if f.fee_asset == b.instrument.base), D(0))
    same(await b.position() - before, order.qty - paid, "what was bought, less its fee")
    await b.accepted(b.exit("sold", b.unit))
    same(await b.position() - before, order.qty - paid - b.unit, "what is left of it")


async def failed_is_not_empty(b: Bench) -> None:
    b.needs_faults()
    order = b.limit("asked")
    await b.accepted(order)
    for trouble in (Trouble.UNSURE, Trouble.CUT_OFF, Trouble.PAGE, Trouble.LOST_REPLY):
        for name, ask in questions(b, order).items():
            with b.trouble(trouble, "", times=0):
                found = await ask()
            same(isinstance(found, Failed), True, f"{name}, {trouble.name}: {found!r} is no failure")


async def empty_is_empty(b: Bench) -> None:
    b.needs_faults()
    same(await b.answered(b.venue.open_orders()), (), "open orders of an account that has none")
    same(await b.fills(), [], "executions of an account that has none")
    stranger = b.limit("stranger")
    same(await b.look(stranger), NotFound(stranger.cid), "an id that nobody knows")


async def paging_executions(b: Bench) -> None:
    if not b.offers.page:
        raise NotOffered("executions come all at once")
    if not b.offers.lists:
        raise NotOffered("a list that does not fit one answer is a failure, and said to be one")
    bid, ask = b.quote()
    count = b.offers.page + 5
    each = step_ceiling(2 * b.unit / count, b.instrument.lot)
    b.hand.show(bid, ask, each, levels=count)
    order = b.market("long", qty=count * each)
    await b.accepted(order)
    await b.ended(order, "filled")
    fills = await b.fills()
    same((len(fills), len({f.exec_id for f in fills})), (count, count), "executions over several pages")
    same(sum(f.qty for f in fills), order.qty, "their sum")


async def paging_orders(b: Bench) -> None:
    if not b.offers.lists:
        raise NotOffered("a list that does not fit one answer is a failure, and said to be one")
    given = [await b.hand.act_as_another(b.limit(f"many-{n}")) for n in range(55)]
    same(len(await b.open_cids()), len(given), "open orders over several pages")


# ---------------------------------------------------------------------------------------------------------------- clock


async def clock_offset(b: Bench) -> None:
    if not b.offers.clock:
        raise NotOffered("requests do not bear the venue's time, wherever it goes")
    for seconds in (40.0, -40.0):
        b.hand.skew(seconds)
        await b.restart()
        await b.accepted(b.limit(f"skew{seconds:+.0f}"))
        told = await b.answered(b.venue.server_time_ns())
        same(abs(told - b.now_ns() - seconds * 1e9) < 5e9, True, "the venue's time")


async def clock_jump(b: Bench) -> None:
    if not b.offers.clock:
        raise NotOffered("requests do not bear the venue's time, wherever it goes")
    b.needs_faults()
    await b.accepted(b.limit("before"))
    b.hand.skew(90)
    order = b.limit("jumped")
    answer = await b.submit(order)
    refused(answer, "unavailable", "not_sent")
    same(b.hand.orders(order.cid), 0, "placed by a request outside of the window")
    await b.accepted(order)


async def dies_with_its_signal(b: Bench) -> None:
    if not b.offers.clock:
        raise NotOffered("requests do not bear the venue's time, wherever it goes")
    order = b.limit("late", valid_until_ns=b.now_ns() + 500_000_000)
    with b.trouble(Trouble.DELAYED, "submit"):
        refused(await b.submit(order), "unavailable", "not_sent")
    same(b.hand.orders(order.cid), 0, "placed after its signal was over")


def questions(b: Bench, order: Order) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every question that an engine asks."""
    venue = b.venue
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        **({"instruments": venue.instruments} if b.offers.rules else {}),
        "server time": venue.server_time_ns,
        "balances": venue.balances,
        "positions": venue.positions,
        "open orders": venue.open_orders,
        "executions": lambda: venue.fills(b.began_ns),
    }
    if b.offers.look_up:
        asked["order"] = lambda: venue.order(order.symbol, order.cid)
        asked["executions of an order"] = lambda: venue.fills(b.began_ns, order.cid)
    return asked


def in_doubt(answer: object) -> None:
    if not isinstance(answer, Silence):
        raise Broken(f"an outcome that nobody can know was answered with {answer}")


def step(b: Bench, qty: Decimal) -> Decimal:
    return qty - qty % b.instrument.lot


_STORIES: tuple[tuple[str, Callable[[Bench], Awaitable[None]]], ...] = (
    ("market order: filled, told, listed", market_order),
    ("limit GTC: rests, is found, is canceled", limit_gtc),
    ("limit IOC: never rests", limit_ioc),
    ("limit FOK: whole or not at all", limit_fok),
    ("post-only: never takes", post_only),
    ("stop: waits at the venue, is found, is canceled", stop_rests),
    ("stop: sells when it is reached", stop_triggers),
    ("amend", amend),
    ("cancel-all", cancel_all),
    ("batch: an answer for each", batch),
    ("rounding: off the tick or the lot is refused", off_step),
    ("minimum notional", too_small),
    ("beyond the account's means", too_large),
    ("duplicate id while the first is open", duplicate_while_open),
    ("duplicate id after the first has ended", duplicate_after_end),
    ("ambiguous submit: answer lost, the order lives", answer_lost_order_lives),
    ("ambiguous submit: request lost, no order", request_lost),
    ("ambiguous submit: answer cut off", answer_cut_off),
    ("ambiguous submit: HTML with status 200", answer_is_a_page),
    ("ambiguous submit: an AMBIGUOUS code", ambiguous_code),
    ("ambiguous submit: a code that no table has", unknown_code),
    ("ambiguous cancel: answer lost", cancel_answer_lost),
    ("ambiguous cancel: request lost", cancel_lost),
    ("ambiguous amend", amend_answer_lost),
    ("ambiguous batch", batch_answer_lost),
    ("error class RETRY: surely nothing done", class_retry),
    ("error class REJECT: final", class_reject),
    ("error class HALT: the key", class_halt),
    ("rate limit: the venue's no", limiters_no),
    ("rate limit: a burst waits on our side", burst),
    ("keys: without trading, or with withdrawing", wrong_key),
    ("partial fill, then cancel", partial_then_cancel),
    ("cancel after fill", cancel_after_fill),
    ("reject after the acknowledgement", reject_after_ack),
    ("restart with open orders", restart),
    ("reconnect: stream dropped", stream_dropped),
    ("reconnect: stream silent", stream_silent),
    ("reconnect: reports doubled", stream_doubled),
    ("an order that shows late in queries", late_in_queries),
    ("foreign order", foreign_order),
    ("foreign fill", foreign_fill),
    ("liquidation", liquidation),
    ("balances are read", balances),
    ("positions are read", positions),
    ("a failed query is not an empty answer", failed_is_not_empty),
    ("an empty answer is no failure", empty_is_empty),
    ("paging: executions", paging_executions),
    ("paging: open orders", paging_orders),
    ("clock offset", clock_offset),
    ("clock jump", clock_jump),
    ("a request dies with its signal", dies_with_its_signal),
    ("funding", funding),
    ("transfers", transfer),
)
# What needs faults, a market, or keys of our own: at a user's venue these are not begun at all.
_FAULTY = (
    stop_triggers,
    answer_lost_order_lives,
    request_lost,
    answer_cut_off,
    answer_is_a_page,
    ambiguous_code,
    unknown_code,
    cancel_answer_lost,
    cancel_lost,
    amend_answer_lost,
    batch_answer_lost,
    class_retry,
    class_reject,
    class_halt,
    limiters_no,
    wrong_key,
    partial_then_cancel,
    reject_after_ack,
    stream_dropped,
    stream_silent,
    stream_doubled,
    late_in_queries,
    foreign_order,
    foreign_fill,
    liquidation,
    balances,
    failed_is_not_empty,
    empty_is_empty,
    paging_executions,
    paging_orders,
    clock_offset,
    clock_jump,
    dies_with_its_signal,
    funding,
    transfer,
)
CASES = tuple(Case(number, name, run, run in _FAULTY) for number, (name, run) in enumerate(_STORIES, 1))
