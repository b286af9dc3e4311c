// One table of all boards. The server sends what has changed since the last question; rows stay and only their cells change.
// All addresses are relative, since the page may stand behind a proxy. Everything that a board says is text, never markup.

const EVERY_MS = 2000;
const AT_ONCE = 500;  // rows; more are shown when they are asked for
const STATES = ["running", "stale", "blind", "error", "unknown", "offline"];
const HIGH = 0.1;  // share of unsure or novel answers that stands out, of this many
const ENOUGH = 50;

const byId = (id) => document.getElementById(id);
const boards = new Map();
let start = "";
let version = 0;
let clock = 0;  // how far the server's clock is ahead of this one, in seconds
let limit = AT_ONCE;
let pictured = "";

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)}\u202f%`;
const known = (value) => value !== null && value !== undefined;

function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([count]) => count);
  return first < 0 ? "now" : `${parts.slice(first, first + (first < 2 ? 2 : 1)).filter(([count]) => count).map((part) => part.join("\u202f")).join(" ")} ago`;
}

// What the server says

async function load() {
  let answer;
  try {
    answer = await fetch(`api/fleet?start=${start}&since=${version}`);
  } catch {
    notice("No connection to this page's server.");
    return;
  }
  if (answer.status === 401) {
    location.reload();
    return;
  }
  if (!answer.ok) {
    notice(`The server answered ${answer.status}.`);
    return;
  }
  const body = await answer.json();
  if (body.whole) {
    boards.forEach(({row}) => row.remove());
    boards.clear();
  }
  ({start, version} = body);
  clock = body.now - Date.now() / 1000;
  body.rows.forEach(take);
  body.gone.forEach((name) => {
    boards.get(name)?.row.remove();
    boards.delete(name);
  });
  const ignored = body.ignored ? `${body.ignored} messages were ignored: too large, of an unreadable name, or of a board too many.` : "";
  const away = body.trouble ? `The broker is away, and what stands here may be old: ${body.trouble}.` : "Reading what the broker keeps…";
  notice(body.connected ? ignored : away);
  showSummary(body);
  if (body.rows.length || body.gone.length) arrange();
  else tick();
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function take(body) {
  let board = boards.get(body.name);
  if (!board) {
    board = {row: element("tr"), cells: []};
    boards.set(body.name, board);
    const head = element("th");
    head.scope = "row";
    board.cells = [head, ...["", "model", "accuracy", "", "", "drift", "", "when", "picture"].map((name) => element("td", name))];
    board.row.append(...board.cells);
  }
  board.body = body;
  fill(board);
}

function fill({body, cells}) {
  const [head, state, model, accuracy, unsure, novel, drift, speed, seen, picture] = cells;
  head.replaceChildren(name(body));
  if (body.group && !body.name.startsWith(`${body.group}/`)) head.append(element("small", "", body.group));
  body.problems.filter((text) => !text.startsWith("drifting: ")).forEach((text) => head.append(element("span", "problem", text)));
  if (body.warning) head.append(element("small", "", body.warning));
  state.replaceChildren(element("span", `pill ${body.state}`, body.state));
  show(model, "", body.model ?? "", body.file);
  model.title = body.edgecnn ? `${body.file}, edgecnn ${body.edgecnn} on ${body.host}` : "";
  const promise = body.promise;
  show(accuracy, "promised", promise ? percent(promise[0]) : "", promise ? `${percent(promise[1])} to ${percent(promise[2])}` : "");
  accuracy.title = promise ? `95 % interval on ${promise[3]} pictures of ${promise[4]}` : "";
  show(unsure, "unsure", known(body.unsure) ? percent(body.unsure) : "");
  show(novel, "novel", known(body.novel) ? percent(body.novel) : "");
  unsure.classList.toggle("high", body.unsure > HIGH && body.answers >= ENOUGH);
  novel.classList.toggle("high", body.novel > HIGH && body.answers >= ENOUGH);
  unsure.title = novel.title = known(body.answers) ? `of ${body.answers.toLocaleString()} answers to different pictures` : "";
  show(drift, "drift", body.drift ?? "");
  show(speed, "", known(body.ms) ? `${body.ms.toFixed(1)} ms` : "", known(body.fps) ? `${body.fps.toFixed(1)} frames/s` : "");
  tickOne({body, cells});
  picture.replaceChildren();
  if (body.pictures && body.state !== "offline") {
    const button = element("button", "", "Show");
    button.type = "button";
    button.setAttribute("aria-label", `Show the last picture of ${body.name}`);
    button.addEventListener("click", () => look(body.name));
    picture.append(button);
  }
}

function name(body) {
  if (!body.page) return body.name;
  const link = element("a", "", body.name);
  link.href = body.page;
  link.rel = "noreferrer noopener";
  link.target = "_blank";
  return link;
}

function show(cell, title, text, small) {
  if (title && text) cell.dataset.title = title;
  else delete cell.dataset.title;
  cell.replaceChildren(...(text ? [text] : []), ...(small ? [element("small", "", text ? ` ${small}` : small)] : []));
}

function tick() {
  boards.forEach(tickOne);
}

function tickOne({body, cells}) {
  const text = known(body.seen_at) ? age(Date.now() / 1000 + clock - body.seen_at) + (body.live ? "" : ", by its clock") : "";
  if (cells[8].textContent !== text) cells[8].textContent = text;
}

// Which rows, in which order

const last = (value, low) => (known(value) ? value : low);
const ORDERS = {
  look: ({body}) => (body.problems.length ? 0 : 1),
  name: () => 0,
  group: ({body}) => body.group ?? "\uffff",
  state: ({body}) => -STATES.indexOf(body.state),
  model: ({body}) => body.model ?? "\uffff",
  accuracy: ({body}) => (body.promise ? body.promise[1] : 2),
  unsure: ({body}) => -last(body.unsure, -1),
  novel: ({body}) => -last(body.novel, -1),
  drift: ({body}) => (body.drift ? 0 : 1),
  ms: ({body}) => -last(body.ms, -1),
  seen: ({body}) => last(body.seen_at, -1),
};
const collator = new Intl.Collator(undefined, {numeric: true});

function wanted({body}) {
  const state = byId("state").value;
  const text = byId("find").value.trim().toLowerCase();
  return (!byId("group").value || body.group === byId("group").value)
    && (!state || (state === "look" ? body.problems.length > 0 : body.state === state))
    && (!text || [body.name, body.host, body.model, body.file, body.group].some((each) => each?.toLowerCase().includes(text)));
}

function arrange() {
  showGroups();
  const key = ORDERS[byId("order").value];
  const found = [...boards.values()].filter(wanted).map((board) => [key(board), board]);
  found.sort(([a, one], [b, other]) => (typeof a === "string" ? collator.compare(a, b) : a - b) || collator.compare(one.body.name, other.body.name));
  const rows = found.slice(0, limit).map(([, board]) => board.row);
  const now = byId("rows").children;
  if (rows.length !== now.length || rows.some((row, index) => row !== now[index])) byId("rows").replaceChildren(...rows);
  tick();
  byId("shown").textContent = `${rows.length.toLocaleString()} of ${boards.size.toLocaleString()} boards`;
  byId("more").hidden = found.length <= limit;
  byId("more").textContent = `Show all ${found.length.toLocaleString()}`;
  byId("empty").hidden = found.length > 0;
  byId("empty").textContent = boards.size ? "No board is like that." : "No board has reported yet: start a camera with --mqtt.";
  document.querySelectorAll("th[data-order]").forEach((head) => {
    if (head.dataset.order === byId("order").value) head.setAttribute("aria-sort", "other");
    else head.removeAttribute("aria-sort");
  });
}

function showGroups() {
  const groups = [...new Set([...boards.values()].map(({body}) => body.group).filter(Boolean))].sort(collator.compare);
  const select = byId("group");
  if (groups.join("\n") === [...select.options].slice(1).map(({value}) => value).join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(new Option("all", ""), ...groups.map((group) => new Option(group, group)));
  select.value = groups.includes(chosen) ? chosen : "";
}

function showSummary({states, bad}) {
  const chosen = byId("state").value;
  const chips = [...STATES.filter((state) => states[state]).map((state) => [state, states[state], state]), ["look", bad, bad === 1 ? "needs a look" : "need a look"]];
  const text = JSON.stringify([chips, chosen]);
  const place = byId("summary");
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(...chips.map(([value, count, word]) => {
    const chip = element("button", value === "look" && count ? "look" : "");
    chip.type = "button";
    chip.append(element("b", "", count.toLocaleString()), ` ${word}`);
    chip.setAttribute("aria-pressed", String(chosen === value));
    chip.addEventListener("click", () => {
      byId("state").value = byId("state").value === value ? "" : value;
      changed();
      showSummary({states, bad});
    });
    return chip;
  }));
}

function changed() {
  limit = AT_ONCE;
  arrange();
}

// The last picture of a board

async function look(board) {
  pictured = board;
  byId("large-words").textContent = `${board}: asking for its last picture…`;
  if (!byId("large").open) byId("large").showModal();
  let words;
  try {
    const answer = await fetch(`api/picture?board=${encodeURIComponent(board)}`, {headers: {"X-Edgecnn-Action": "picture"}});
    if (pictured !== board) return;
    if (answer.ok) {
      byId("large-picture").src = await dataAddress(await answer.blob());
      byId("large-picture").alt = `The last picture of ${board}`;
      words = `${board}, ${new Date().toLocaleTimeString()}`;
    } else {
      byId("large-picture").removeAttribute("src");
      words = `${board}: ${(await answer.text()).trim()}`;
    }
  } catch {
    words = `${board}: no connection.`;
  }
  byId("large-words").textContent = words;
}

function dataAddress(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.readAsDataURL(blob);
  });
}

document.querySelectorAll("th[data-order]").forEach((head) => {
  const button = element("button", "", head.textContent);
  button.type = "button";
  button.addEventListener("click", () => {
    byId("order").value = byId("order").value === head.dataset.order ? "look" : head.dataset.order;
    changed();
  });
  head.replaceChildren(button);
});
["group", "state", "order"].forEach((id) => byId(id).addEventListener("change", changed));
byId("find").addEventListener("input", changed);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => {
  limit = Infinity;
  arrange();
});
byId("again").addEventListener("click", () => look(pictured));
byId("large").addEventListener("close", () => {
  pictured = "";
  byId("large-picture").removeAttribute("src");
});

async function run() {
  if (!document.hidden) await load();
  setTimeout(run, EVERY_MS);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
run();
