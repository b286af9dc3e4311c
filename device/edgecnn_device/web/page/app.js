// The page shows nothing as live that the board does not vouch for: without news for SILENCE_MS, or in any state but ok,
// picture and answer are taken away and the reason stands in their place.

const SILENCE_MS = 3500;
const RETRY_MS = 2000;
const CHART_S = 300;
const GAP_S = 12;
const WORDS = {ok: "Live", stale: "Stale", blind: "Blind", gone: "No connection", wait: "Connecting"};
const STAGES = ["capture", "find", "preprocess", "invoke", "publish"];

const byId = (id) => document.getElementById(id);
let model = {labels: []};
let exportId = null;
let history = [];
let events = null;
let heardAt = 0;
let chosenRegion = null;
let retryTimer = 0;
let pictureNumber = 0;

function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const classOf = (classId) => (classId < 0 ? "" : `class-${classId % 10}`);
const percent = (p) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}\u202f%`;
const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

const age = (ms) => (ms === null ? "–" : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

// State, picture and curtain

function showState(state, reason) {
  const live = state === "ok";
  document.body.dataset.state = state;
  setText("state", WORDS[state]);
  // The seconds in a reason change all the time; a reader of the screen is told once.
  if (!live || byId("reason").textContent) setText("reason", live ? "" : reason.replace(/ for \d+(\.\d+)? s/, ""));
  byId("curtain").hidden = live;
  setText("curtain-word", WORDS[state]);
  setText("curtain-reason", reason);
  if (live) startPicture();
  else {
    stopPicture();
    clearAnswer(state === "wait" ? "No answer yet." : `No answer while ${state === "gone" ? "there is no connection" : `the camera is ${state}`}.`);
  }
}

function startPicture() {
  const picture = byId("picture");
  if (picture.getAttribute("src")) return;
  pictureNumber += 1;
  picture.src = `/stream.mjpg?${pictureNumber}`;
  picture.hidden = false;
}

function stopPicture() {
  const picture = byId("picture");
  picture.hidden = true;
  picture.removeAttribute("src");
}

byId("picture").addEventListener("error", () => {
  stopPicture();
  setTimeout(() => { if (document.body.dataset.state === "ok" && !document.hidden) startPicture(); }, RETRY_MS);
});

byId("picture").addEventListener("load", (event) => {
  const {naturalWidth, naturalHeight} = event.target;
  if (naturalWidth) event.target.parentElement.style.aspectRatio = `${naturalWidth} / ${naturalHeight}`;
});

// Answers

function clearAnswer(words) {
  byId("answer").hidden = true;
  byId("nothing").hidden = false;
  setText("nothing", words);
  byId("regions").replaceChildren();
}

function showAnswer(view) {
  const regions = view.regions;
  if (!regions.length) {
    clearAnswer("Nothing found in this picture.");
    return;
  }
  const region = regions.find((one) => one.id === chosenRegion) ?? regions[0];
  byId("nothing").hidden = true;
  byId("answer").hidden = false;
  const answer = region.smoothed;
  setText("label", answer.label ?? "unknown");
  setText("probability", answer.label === null ? `best guess only ${percent(answer.probability)}` : percent(answer.probability));
  const input = byId("input");
  input.hidden = !region.input;
  if (region.input) input.src = region.input;
  input.alt = `Input of the network, recognised as ${answer.label ?? "unknown"}`;
  showBars(region.probabilities, answer.class_id);
  showRegions(regions, region.id);
}

function showBars(probabilities, top) {
  const bars = byId("bars");
  if (bars.children.length !== probabilities.length) {
    bars.replaceChildren(...probabilities.map((_, i) => {
      const line = element("li", classOf(i));
      const track = element("span", "track");
      track.append(element("span", "fill"));
      line.append(element("span", "", model.labels[i] ?? `class ${i}`), track, element("span", "value"));
      return line;
    }));
  }
  probabilities.forEach((p, i) => {
    const line = bars.children[i];
    line.querySelector(".fill").style.transform = `scaleX(${p})`;
    line.querySelector(".value").textContent = percent(p);
    line.classList.toggle("top", i === top);
  });
}

function showRegions(regions, chosen) {
  const list = byId("regions");
  if (regions.length < 2) {
    list.replaceChildren();
    return;
  }
  const known = new Map([...list.children].map((button) => [button.dataset.region, button]));
  const shown = regions.slice(0, 48).map((region) => {
    const button = known.get(String(region.id)) ?? regionButton(region.id);
    const picture = button.querySelector("img");
    picture.hidden = !region.input;
    if (region.input) picture.src = region.input;
    const {label, probability} = region.smoothed;
    button.querySelector("span").textContent = `${label ?? "unknown"} ${percent(probability)}`;
    button.setAttribute("aria-pressed", String(region.id === chosen));
    return button;
  });
  const same = shown.length === list.children.length && shown.every((button, i) => button === list.children[i]);
  if (!same) list.replaceChildren(...shown);
}

function regionButton(id) {
  const button = element("button");
  const picture = element("img");
  picture.alt = "";
  button.type = "button";
  button.dataset.region = id;
  button.append(picture, element("span"));
  button.addEventListener("click", () => { chosenRegion = id; });
  return button;
}

// Figures

function showStats(stats) {
  setText("source", stats.source);
  const late = stats.age_ms !== null && stats.age_ms > 1500;
  setText("caption", stats.state === "ok" && late ? `last looked ${duration(stats.age_ms / 1000)} ago` : "");
  setText("fps", number(stats.fps, 1));
  setText("age", age(stats.age_ms));
  setText("frames", whole(stats.frames));
  setText("skipped", whole(stats.skipped));
  setText("losses", whole(stats.losses));
  setText("uptime", duration(stats.uptime_s));
  byId("latency").replaceChildren(...[...STAGES, "age"].map((stage) => {
    const row = element("tr");
    const head = element("th", "", stage === "age" ? "frame age" : stage);
    head.scope = "row";
    const {p50, p95} = stats.latency_ms[stage];
    row.append(head, element("td", "", number(p50, 2)), element("td", "", number(p95, 2)));
    return row;
  }));
  const {ok, stale, blind} = stats.state_seconds;
  setText("seconds", `Since the start: live for ${duration(ok)}, stale for ${duration(stale)}, blind for ${duration(blind)}.`);
  const errors = Object.entries(stats.sink_errors);
  byId("errors").hidden = !errors.length;
  setText("errors", `Failed writes: ${errors.map(([name, count]) => `${name} ${count}`).join(", ")}`);
  if (stats.export_id !== exportId) loadModel(stats.export_id);
}

// Model card

async function load(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

async function loadModel(id) {
  exportId = id;
  try {
    model = await load("/api/model");
  } catch {
    exportId = null;
    return;
  }
  document.title = `${model.title} · edgecnn`;
  setText("title", model.title);
  byId("bars").replaceChildren();
  showParity(model.parity);
  showFacts();
  const legend = model.labels.slice(0, 10).map((label, i) => element("li", classOf(i), label));
  byId("legend").replaceChildren(...legend, element("li", "", "unknown"), element("li", "trouble", "no believable picture"));
}

function showParity(parity) {
  const words = {pass: "passed", fail: "failed", undecided: "undecided", "not measured": "not measured"};
  const badge = byId("verdict");
  badge.className = `badge ${parity.verdict.split(" ")[0]}`;
  setText("verdict", `Parity ${words[parity.verdict]}`);
  const data = parity.data;
  setText("verdict-words", data ? `on ${whole(data.count)} ${data.synthetic ? "synthetic " : ""}pictures (${data.source}, ${data.split})` : "");
}

function showFacts() {
  const {parity, training_data: training} = model;
  const points = (value) => `${value.toFixed(2)} points`;
  const share = (value) => `${(100 * value).toFixed(2)}\u00a0%`;
  const confidence = parity.confidence === null ? "" : ` at ${Math.round(100 * parity.confidence)}\u00a0% confidence`;
  const facts = [
    ["Network", `${model.model}, ${whole(model.parameters)} parameters`],
    ["File", `${model.file} (${model.precision})`],
    ["Input", model.input.join(" × ")],
    ["Runtime", model.runtime],
    ["Verified here", model.verified ? "yes, golden vectors replayed at the start" : "no"],
    ["Accuracy", parity.accuracy === null ? null : `${share(parity.accuracy)}, reference ${share(parity.reference_accuracy)}`],
    ["Accuracy lost", parity.drop === null ? null : points(parity.drop) + (parity.drop_bound === null ? "" : `, at most ${points(parity.drop_bound)}${confidence}`)],
    ["Trained on", training === null ? null : `${whole(training.count)} ${training.synthetic ? "synthetic " : ""}pictures (${training.source}, ${training.split})`],
    ["Unknown below", model.reject_threshold === null ? null : percent(model.reject_threshold)],
    ["Export", model.export_id],
  ].filter(([, value]) => value !== null);
  byId("model").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

// Strip chart: a dot for each answer, its probability upwards; bands where there was no believable picture

function remember(view) {
  const at = view.captured_at ? Date.parse(view.captured_at) / 1000 : (history.at(-1)?.[0] ?? Date.now() / 1000) + 0.5;
  const answers = view.regions.slice(0, 16).map(({smoothed}) => [smoothed.label === null ? -1 : smoothed.class_id, smoothed.probability]);
  history.push([at, view.state, answers]);
  while (history.length && history[0][0] < at - CHART_S) history.shift();
}

function drawChart() {
  const canvas = byId("chart");
  const {clientWidth: width, clientHeight: height} = canvas;
  const scale = window.devicePixelRatio || 1;
  if (!width) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.body);
  const color = (name) => style.getPropertyValue(`--${name}`);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const box = {left: 48, right: width - 6, top: 8, bottom: height - 22};
  const end = history.at(-1)?.[0] ?? 0;
  const x = (at) => box.right - (end - at) * (box.right - box.left) / CHART_S;
  const y = (p) => box.bottom - p * (box.bottom - box.top);
  drawGrid(pen, box, y, color);
  drawTroubles(pen, box, x, color);
  for (const [at, , answers] of history) {
    for (const [classId, p] of answers) {
      pen.fillStyle = color(classId < 0 ? "unknown" : classOf(classId));
      pen.fillRect(x(at) - 1, y(p) - 1.5, 2.2, 3);
    }
  }
}

function drawGrid(pen, box, y, color) {
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = color("soft");
  pen.strokeStyle = color("line");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const p of [0, 0.5, 1]) {
    pen.beginPath();
    pen.moveTo(box.left, Math.round(y(p)) + 0.5);
    pen.lineTo(box.right, Math.round(y(p)) + 0.5);
    pen.stroke();
    pen.fillText(`${100 * p} %`, box.left - 6, y(p));
  }
  pen.textBaseline = "top";
  for (const minutes of box.right - box.left > 420 ? [0, 1, 2, 3, 4, 5] : [0, 2, 4]) {
    pen.textAlign = minutes === 0 ? "right" : minutes === 5 ? "left" : "center";
    pen.fillText(minutes === 0 ? "now" : `−${minutes} min`, box.right - minutes * (box.right - box.left) / 5, box.bottom + 7);
  }
}

function drawTroubles(pen, box, x, color) {
  pen.globalAlpha = 0.3;
  let from = 0;
  history.forEach(([at, state], i) => {
    const next = history[i + 1];
    if (next && next[1] === state && next[0] - at < GAP_S) return;
    if (state !== "ok") {
      const left = x(history[from][0]);
      const until = next && next[0] - at < GAP_S ? next[0] : at;
      pen.fillStyle = color(state);
      pen.fillRect(left, box.top, Math.max(2, x(until) - left), box.bottom - box.top);
    }
    from = i + 1;
  });
  pen.globalAlpha = 1;
}

function describeChart() {
  const counts = new Map();
  for (const [, , answers] of history) for (const [classId] of answers) counts.set(classId, (counts.get(classId) ?? 0) + 1);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([id, count]) => `${id < 0 ? "unknown" : model.labels[id]} ${percent(count / total)}`);
  byId("chart").setAttribute("aria-label", `Answers of the last five minutes: ${parts.join(", ") || "none"}`);
}

// Connection

function connect() {
  clearTimeout(retryTimer);
  events?.close();
  heardAt = Date.now();
  events = new EventSource("/api/live");
  events.addEventListener("open", loadHistory);
  events.addEventListener("view", (event) => {
    heardAt = Date.now();
    const view = JSON.parse(event.data);
    showState(view.state, view.reason ?? "");
    if (view.state === "ok") showAnswer(view);
    remember(view);
  });
  events.addEventListener("stats", (event) => {
    heardAt = Date.now();
    showStats(JSON.parse(event.data));
  });
  events.addEventListener("error", () => lose("the board does not answer"));
}

async function loadHistory() {
  try {
    history = await load("/api/history");
  } catch {
    // The chart begins empty.
  }
}

function lose(reason) {
  events?.close();
  events = null;
  showState("gone", reason);
  clearTimeout(retryTimer);
  retryTimer = setTimeout(() => { if (!document.hidden) connect(); }, RETRY_MS);
}

setInterval(() => {
  if (document.hidden) return;
  if (events && Date.now() - heardAt > SILENCE_MS) lose("the board has said nothing for some seconds");
  drawChart();
}, 500);
setInterval(describeChart, 10000);

// A page that nobody sees costs the board nothing, and leaves its connections to the pages that somebody sees.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    connect();
    return;
  }
  clearTimeout(retryTimer);
  events?.close();
  events = null;
  showState("wait", "");
});

connect();
