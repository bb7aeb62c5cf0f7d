// The live page: reads the API and shows it. Nothing is computed here but what a person reads; text only ever goes in
// as text, because symbols, reasons and notes come from outside.
"use strict";
const base = "/api/execution";
const at = (id) => document.getElementById(id);

async function read(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (!answer.ok && path !== "/health") throw new Error(body.reasons?.map((r) => r.reason).join("; ") || body.error);
  return body;
}

function cell(kind, text, look) {
  const made = document.createElement(kind);
  if (text instanceof Node) made.append(text); else made.textContent = text ?? "";
  if (look) made.className = look;
  return made;
}

// columns: [title, row => text or node, row => class]
function table(id, rows, columns) {
  if (!rows.length) { at(id).replaceChildren(cell("span", "none")); return; }
  const made = document.createElement("table");
  const head = made.createTHead().insertRow();
  for (const [title, , look] of columns) head.append(cell("th", title, look?.(rows[0])?.startsWith("number") ? "number" : ""));
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [, text, look] of columns) line.append(cell("td", text(row), look ? look(row) : ""));
  }
  at(id).replaceChildren(made);
}

const number = () => "number";
const gain = (value) => "number " + (String(value).startsWith("-") ? "bad" : "good");
const clock = (iso) => iso ? iso.slice(11, 23) : "";
const time = (ns) => ns >= 1e9 ? (ns / 1e9).toFixed(2) + " s" : ns >= 1e6 ? (ns / 1e6).toFixed(2) + " ms" : (ns / 1e3).toFixed(0) + " µs";

function link(href, text) {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = text;
  return made;
}

function showHealth(health) {
  const ready = at("ready");
  const words = [["live", health.live], ["protection", health.protective_ready], ["entries", health.entry_ready]];
  ready.textContent = words.map(([word, well]) => (well ? "" : "no ") + word).join(" · ");
  ready.className = "badge " + (health.live && health.entry_ready ? "good" : "bad");
  table("halts", health.halts, [
    ["scope", (h) => h.scope, () => "bad"], ["kind", (h) => h.kind], ["reason", (h) => h.reason], ["since", (h) => clock(h.since_at)], ["by", (h) => h.by],
  ]);
  table("components", health.components, [
    ["", (c) => c.ok ? "ok" : "NOT OK", (c) => c.ok ? "good" : "bad"], ["component", (c) => c.name], ["", (c) => c.detail],
  ]);
}

// Limits that are used up most come first; no number is computed with but for the length of the bar.
function showUsage(accounts) {
  const rows = Object.entries(accounts).flatMap(([account, uses]) => uses.map((use) => ({ account, ...use })));
  const share = (row) => Number(row.limit) ? Math.min(1, Number(row.value) / Number(row.limit)) : Number(row.passed ? 0 : 1);
  rows.sort((one, other) => share(other) - share(one));
  const bar = (row) => {
    const made = document.createElement("meter");
    made.value = share(row);
    made.high = 0.8;
    made.title = `${Math.round(share(row) * 100)} %`;
    return made;
  };
  table("limits", rows, [
    ["account", (r) => r.account], ["limit", (r) => r.rule.replace(/^RSK\d+\./, "").replaceAll("_", " ")],
    ["used", (r) => short(r.value), (r) => r.passed ? "number" : "number bad"], ["of", (r) => short(r.limit), number],
    ["", (r) => r.unit], ["", bar],
  ]);
}

const short = (text) => text.includes(".") ? text.replace(/(\.\d{4})\d+$/, "$1") : text;

const alerts = [];
function hear(event) {
  const { at, account, body } = JSON.parse(event.data).event;
  alerts.unshift({ at, account, ...body });
  alerts.splice(20);
  showAlerts();
}

function showAlerts() {
  table("alerts", alerts, [
    ["time", (a) => clock(a.at)], ["severity", (a) => a.severity, (a) => a.severity === "critical" ? "bad" : ""],
    ["kind", (a) => a.kind], ["account", (a) => a.account], ["", (a) => a.text],
  ]);
}

async function refresh() {
  const [health, held, orders, signals, tally, used] = await Promise.all([
    read("/health"), read(base + "/positions"), read(base + "/orders?live=true&limit=50"),
    read(base + "/signals?limit=20"), read(base + "/latency"), read(base + "/usage"),
  ]);
  showHealth(health);
  table("positions", held.positions, [
    ["account", (p) => p.account], ["symbol", (p) => p.symbol], ["quantity", (p) => p.qty, number],
    ["unrealised", (p) => p.unrealised, (p) => gain(p.unrealised)], ["net so far", (p) => p.net, (p) => gain(p.net)],
    ["stop", (p) => p.stop_loss ?? (p.stop_waived ? "waived" : "none"), (p) => p.uncovered_ns ? "number bad" : "number"],
    ["mark", (p) => p.mark, number], ["average", (p) => p.avg_price, number],
  ]);
  table("orders", orders.orders, [
    ["symbol", (o) => o.symbol], ["leg", (o) => o.leg], ["side", (o) => o.side], ["type", (o) => o.order_type],
    ["quantity", (o) => o.qty, number], ["filled", (o) => o.filled_qty, number],
    ["price", (o) => o.price ?? o.trigger_price, number], ["state", (o) => o.state, (o) => o.state === "unclear" ? "bad" : ""],
  ]);
  table("signals", signals.signals, [
    ["time", (s) => clock(s.received_at)], ["signal", (s) => link(s.href + "?format=text", s.signal_id)],
    ["symbol", (s) => s.symbol], ["", (s) => `${s.action} ${s.side ?? ""}`], ["outcome", (s) => s.outcome],
    ["", (s) => s.reasons.join(", "), () => "bad"],
  ]);
  showUsage(used.accounts);
  const stages = Object.entries(tally.stages).filter(([, figures]) => figures.count);
  table("latency", stages, [
    ["stage", ([name]) => name.replace("_", " → ")], ["count", ([, f]) => f.count, number],
    ["p50", ([, f]) => time(f.p50_ns), number], ["p99", ([, f]) => time(f.p99_ns), number],
    ["p99.9", ([, f]) => time(f.p999_ns), number], ["max", ([, f]) => time(f.max_ns), number],
  ]);
  at("heard").textContent = new Date().toISOString().slice(11, 19) + " UTC"; // as every other time here
}

let due = 0;
let busy = false;
async function tick() {
  if (busy || Date.now() < due) return;
  busy = true;
  due = Date.now() + 2000;
  try {
    await refresh();
    at("error").hidden = true;
  } catch (error) {
    problem(`The engine does not answer: ${error.message}`);
  } finally {
    busy = false;
  }
}

function problem(text) {
  at("error").textContent = text;
  at("error").hidden = false;
}

at("stop").addEventListener("click", () => at("ask").showModal());
at("ask").addEventListener("close", async () => {
  const choice = at("ask").returnValue;
  at("ask").returnValue = "no";
  if (choice !== "halt" && choice !== "flatten") return;
  at("stop").disabled = true;
  try {
    const body = JSON.stringify({ by: "page", reason: "the stop button", flatten: choice === "flatten" });
    const answer = await fetch(base + "/stop", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const told = await answer.json();
    if (!told.complete) problem("Not everything is closed: " + [...(told.problems ?? []), told.error ?? "see positions and orders"].join("; "));
  } catch (error) {
    problem(`The stop could not be sent: ${error.message}`);
  } finally {
    at("stop").disabled = false;
    due = 0;
  }
});

// An event makes the next look come sooner, at most four times a second; without events it comes every two seconds.
// From the oldest event that the engine still has at hand, so that earlier alerts are seen as well.
const events = new EventSource(base + "/stream?last_event_id=0");
const names = ["order.placed", "order.filled", "order.failed", "order.cancelled", "trade.opened", "trade.closed",
  "position.updated", "system.error", "trade_confirmations"];
for (const name of names) events.addEventListener(name, () => { due = 0; });
events.addEventListener("system.error", hear);
events.addEventListener("end", () => events.close());
showAlerts();
setInterval(tick, 250);
tick();
