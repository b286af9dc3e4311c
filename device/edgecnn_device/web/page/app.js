// The page shows nothing as live that the board does not vouch for: without news for SILENCE_MS, or in any state but ok,
// picture and answer are taken away and the reason stands in their place.
// All addresses are relative, since the page may stand behind a proxy, and all news comes in one stream, since a browser
// has six connections to one address for all of its windows.

const SILENCE_MS = 3500;
const RETRY_MS = 2000;
const CROWDED_MS = 6000;
const CHART_S = 300;
const GAP_S = 12;
const CLOCKS_S = 60;
const MOST_BUTTONS = 48;
const WORDS = {ok: "Live", gone: "No connection", wait: "Connecting", error: "Model error"};
const NO_ANSWER = {wait: "No answer yet.", gone: "No answer without a connection.", error: "No answer: the model fails."};
const STAGES = ["capture", "find", "preprocess", "invoke", "publish"];
const NONE = "none of these";

const byId = (id) => document.getElementById(id);
let model = {labels: [], defects: [], reads: false, reject_threshold: null};
let history = [];
let events = null;
let openedAt = 0;
let heardAt = 0;
let retryTimer = 0;
let pinned = null;
let view = null;
let stats = null;
let today = null;
let lastPictureAt = null;
let frame = null;
const pictures = new Map();

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

const classOf = (classId) => (classId < 0 ? "class-none" : `class-${classId % 10}`);
const human = (label) => (label === null || label === undefined ? NONE : label.replaceAll("_", " "));
const UNNAMED = {novel: "never seen", unsure: "unsure"};
const answered = ({label, verdict}) => (label === null ? UNNAMED[verdict] ?? NONE : human(label));
const percent = (p) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}\u202f%`;
const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
const timeOf = (seconds, parts = "seconds") => new Date(1000 * seconds).toLocaleTimeString([], {
  hour: "2-digit", minute: "2-digit", ...(parts === "seconds" ? {second: "2-digit"} : {}), hourCycle: "h23",
});

function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function addressOf(path) {
  const address = new URL(path, document.baseURI);
  address.username = address.password = "";  // fetch refuses an address with a password in it
  return address;
}

const isLive = () => document.body.dataset.state === "ok";
const age = (ms) => (ms === null ? "–" : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

// State and curtain

function showState(state, reason) {
  const live = state === "ok";
  const isNew = document.body.dataset.state !== state;
  document.body.dataset.state = state;
  if (isNew) showToday();  // nothing is in view that cannot be seen
  const word = WORDS[state] ?? "No picture";
  setText("state", word);
  byId("curtain").hidden = live;
  setText("curtain-word", word);
  showReason(live ? "" : reason);
  if (!live) {
    hidePicture();
    clearAnswer(NO_ANSWER[state] ?? "No answer while there is no picture.");
  }
}

// The address of the camera stands there once, in a line of its own.
function showReason(reason) {
  const source = view?.source ?? stats?.source ?? "";
  setText("curtain-reason", source ? reason.replaceAll(source, "it") : reason);
}

function showRetry() {
  const state = document.body.dataset.state;
  const isCamera = state === "stale" || state === "blind";
  setText("curtain-source", isCamera ? view?.source ?? "" : "");
  setText("curtain-last", lastPictureAt === null || state === "ok" ? "" : `Last picture at ${timeOf(lastPictureAt)}`);
  if (state === "wait" && events && Date.now() - openedAt > CROWDED_MS) {
    setText("curtain-retry", "No answer yet. A browser has six connections to one address: other windows may hold them.");
  } else if (!isCamera || !stats) {
    setText("curtain-retry", "");
  } else if (stats.retry_in_s === null) {
    setText("curtain-retry", view?.captured_at ? "" : "Trying now");
  } else {
    const left = Math.max(0, Math.ceil(stats.retry_in_s - (Date.now() - stats.heardAt) / 1000));
    setText("curtain-retry", left > 0 ? `Next try in ${left} s` : "Trying now");
  }
}

// Picture, and what is drawn on it: letters in a picture would be too small on a phone

function showPicture(news) {
  frame = news;
  const picture = byId("picture");
  const screen = byId("screen");
  picture.src = `data:image/jpeg;base64,${news.jpeg}`;
  picture.hidden = false;
  screen.style.setProperty("--ratio", `${news.size[0]} / ${news.size[1]}`);
  screen.style.setProperty("--wide", news.size[0] / news.size[1]);
  lastPictureAt = Date.parse(news.captured_at) / 1000;
  drawBoxes(news);
}

function hidePicture() {
  const picture = byId("picture");
  picture.hidden = true;
  picture.removeAttribute("src");
  byId("overlay").replaceChildren();
  frame = null;
}

function drawBoxes({size: [width, height], regions, worst, where}) {
  const overlay = byId("overlay");
  byId("where-switch").hidden = !where;
  overlay.classList.toggle("plain", !byId("show-where").checked);
  while (overlay.children.length > regions.length) overlay.lastChild.remove();
  while (overlay.children.length < regions.length) {
    const box = element("div", "box");
    box.append(element("span"));
    overlay.append(box);
  }
  regions.forEach(([id, x, y, w, h, classId], i) => {
    const box = overlay.children[i];
    const isWhole = w === width && h === height;
    const isWorst = id === worst && regions.length > 1 && !model.reads;
    box.className = `box ${classOf(classId)}${isWorst ? " worst" : ""}${isWhole ? " whole" : ""}${x > width / 2 ? " right" : ""}${y < height / 12 ? " inside" : ""}`;
    Object.assign(box.style, {
      left: `${100 * x / width}%`, top: `${100 * y / height}%`, width: `${100 * w / width}%`, height: `${100 * h / height}%`,
    });
    box.firstChild.textContent = classId < 0 ? "" : human(model.labels[classId]);
    if (regions.length > 1 && !model.reads) box.dataset.position = i + 1;
    else delete box.dataset.position;
    drawWhere(box, [x, y, w, h], where?.[i]);
  });
}

// What speaks for an answer, or is novel: a dashed box inside the region's own.
function drawWhere(box, [x, y, w, h], where) {
  box.querySelector("i")?.remove();
  if (!where) return;
  const [left, top, across, down, map] = where;
  const mark = element("i", map);
  Object.assign(mark.style, {
    left: `${100 * (left - x) / w}%`, top: `${100 * (top - y) / h}%`, width: `${100 * across / w}%`, height: `${100 * down / h}%`,
  });
  box.append(mark);
}

// Answers

function clearAnswer(words) {
  byId("answer").hidden = true;
  byId("answers").hidden = true;
  byId("nothing").hidden = false;
  byId("now").dataset.verdict = "none";
  setText("nothing", words);
}

function showAnswer() {
  const regions = view.regions;
  if (!regions.length) {
    clearAnswer("Nothing found in this picture.");
    return;
  }
  if (pinned !== null && !regions.some(({id}) => id === pinned)) pinned = null;
  const shown = regions.find(({id}) => id === (pinned ?? view.worst)) ?? regions[0];
  byId("nothing").hidden = true;
  byId("answer").hidden = false;
  byId("answers").hidden = false;
  showHeadline(regions, shown);
  showBars(byId("bars"), shown.probabilities, shown.smoothed.class_id);
  byId("explain").dataset.region = shown.id;
  showRegions(regions, shown.id);
}

function showHeadline(regions, shown) {
  const {label, probability} = shown.smoothed;
  const reads = model.reads && pinned === null;
  byId("now").dataset.verdict = label === null || model.reads ? "none" : model.defects.includes(label) ? "defect" : "good";
  setText("label", reads ? regions.map(({smoothed}) => smoothed.label ?? "?").join(" ") : answered(shown.smoothed));
  setText("probability", reads && regions.length > 1 ? "" : label === null ? doubt(shown.smoothed) : percent(probability));
  const place = regions.findIndex(({id}) => id === shown.id) + 1;
  setText("answers-title", regions.length < 2 ? "Every class" : `Every class at position ${place}`);
  setText("where", reads ? `${regions.length} found` : regions.length < 2 ? "" : `${pinned === null ? "Worst: position" : "Position"} ${place} of ${regions.length}`);
  const input = byId("input");
  const picture = shown.input ?? cutOut(shown.box);
  input.hidden = !picture || (reads && regions.length > 1);
  if (picture) input.src = picture;
  input.alt = `What the network saw, recognised as ${answered(shown.smoothed)}`;
}

function doubt({class_id: classId, probability, verdict, novelty, nearest, between}) {
  if (verdict === "novel") return `unlike anything it was trained on, nearest to ${human(nearest)} (novelty ${number(novelty, 1)})`;
  if (between) return `${human(between[0])} or ${human(between[1])}, only ${percent(probability)}`;
  return `best guess ${human(model.labels[classId])}, only ${percent(probability)}`;
}

// The board sends what the network saw of the worst region alone; of another one the picture is shown.
function cutOut([x, y, w, h]) {
  const picture = byId("picture");
  if (!frame || !picture.naturalWidth) return null;
  const scale = picture.naturalWidth / frame.size[0];
  const canvas = element("canvas");
  canvas.width = canvas.height = 200;
  canvas.getContext("2d").drawImage(picture, x * scale, y * scale, w * scale, h * scale, 0, 0, 200, 200);
  return canvas.toDataURL("image/jpeg");
}

function showBars(bars, probabilities, top) {
  if (bars.children.length !== probabilities.length) {
    bars.replaceChildren(...probabilities.map((_, i) => {
      const line = element("li", classOf(i));
      const track = element("span", "track");
      track.append(element("span", "fill"));
      line.append(element("span", "", model.labels[i] === undefined ? `class ${i}` : human(model.labels[i])), track, element("span", "value"));
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

function showRegions(regions, shown) {
  const list = byId("regions");
  byId("unpin").hidden = pinned === null;
  if (regions.length < 2) {
    list.replaceChildren();
    return;
  }
  const known = new Map([...list.children].map((button) => [button.dataset.region, button]));
  const buttons = regions.slice(0, MOST_BUTTONS).map((region, i) => {
    const button = known.get(String(region.id)) ?? regionButton(region.id);
    const {label, class_id: classId, probability, verdict, novelty} = region.smoothed;
    button.className = classOf(label === null ? -1 : classId);
    button.firstChild.textContent = String(i + 1);
    button.lastChild.textContent = `${answered(region.smoothed)} ${verdict === "novel" ? number(novelty, 2) : percent(probability)}`;
    button.setAttribute("aria-pressed", String(region.id === shown));
    return button;
  });
  const same = buttons.length === list.children.length && buttons.every((button, i) => button === list.children[i]);
  if (!same) list.replaceChildren(...buttons);
}

function regionButton(id) {
  const button = element("button");
  button.type = "button";
  button.dataset.region = id;
  button.append(element("b"), element("span"));
  button.addEventListener("click", () => { pinned = pinned === id ? null : id; showAnswer(); });
  return button;
}

byId("show-where").addEventListener("change", () => byId("overlay").classList.toggle("plain", !byId("show-where").checked));
byId("unpin").addEventListener("click", () => { pinned = null; showAnswer(); });

// What stands behind an answer: asked of the board when somebody taps a region, and from then on as old as it says

let why = null;

async function explain(id) {
  let found = null;
  let trouble = "The board does not answer.";
  try {
    const answer = await fetch(addressOf(`api/region?id=${id}`));
    const body = await answer.json();
    if (answer.ok) found = {...body, heardAt: Date.now()};
    else trouble = body.error;
  } catch {
    // What is shown stays, with its age.
  }
  if (found) {
    const isOther = why?.id !== found.id || !byId("why").open;
    why = found;
    showWhy(isOther);
  } else if (why) {
    why.trouble = `${trouble[0].toUpperCase()}${trouble.slice(1)}. `;
  }
  showAge();
  if (why && !byId("why").open) byId("why").showModal();
}

function showWhy(isOther) {
  const {label, class_id: classId, probability, verdict} = why;
  setText("why-title", label === null ? answered(why) : `${human(label)} ${percent(probability)}`);
  byId("why-input").src = why.input;
  setText("show-class-words", `What speaks for ${human(model.labels[classId])}`);
  setText("show-novelty-words", verdict === "novel" ? "What is novel" : "What is least familiar");
  for (const name of ["class", "novelty"]) {
    const image = byId(`why-${name}`);
    const map = why.maps[name];
    const box = byId(`show-${name}`);
    box.parentElement.hidden = !map;
    if (map) image.src = map;
    if (isOther) box.checked = (name === "novelty") === (verdict === "novel");
    image.hidden = !map || !box.checked;
  }
  byId("why-no-map").hidden = Object.keys(why.maps).length > 0;
  showBars(byId("why-bars"), why.probabilities, classId);
  setText("why-likeness", likeness(why));
}

function likeness({novelty, distance, nearest}) {
  if (novelty === undefined || novelty === null) return "This model has no thresholds: it cannot tell what it has never seen. Export it again with its pictures.";
  const verdict = novelty > 1 ? "beyond" : "within";
  return `Novelty ${number(novelty, 2)}, ${verdict} the threshold of 1. Nearest training class: ${human(nearest)}, at a distance of ${number(distance, 3)}.`;
}

function showAge() {
  if (!why || !byId("why").open && !why.heardAt) return;
  const seconds = (why.age_ms + Date.now() - why.heardAt) / 1000;
  const place = view && view.regions.length > 1 ? view.regions.findIndex(({id}) => id === why.id) + 1 : 0;
  setText("why-when", `${why.trouble ?? ""}${place ? `Position ${place}. ` : ""}Picture of ${timeOf(Date.parse(why.captured_at) / 1000)}, ${duration(Math.max(0, seconds))} ago.`);
}

for (const name of ["class", "novelty"]) {
  byId(`show-${name}`).addEventListener("change", () => { byId(`why-${name}`).hidden = !byId(`show-${name}`).checked; });
}
byId("explain").addEventListener("click", () => explain(byId("explain").dataset.region));
byId("why-again").addEventListener("click", () => explain(why.id));
byId("screen").addEventListener("click", ({clientX, clientY}) => {
  if (!frame || !isLive()) return;
  const screen = byId("screen").getBoundingClientRect();
  const x = (clientX - screen.left) / screen.width * frame.size[0];
  const y = (clientY - screen.top) / screen.height * frame.size[1];
  const hit = frame.regions.filter(([, left, top, w, h]) => left <= x && x < left + w && top <= y && y < top + h);
  hit.sort((one, other) => one[3] * one[4] - other[3] * other[4]);
  if (hit.length) explain(hit[0][0]);
});

// The day and the alarm

function showToday() {
  if (!today) return;
  const {counts, since, alarm} = today;
  showCounts(counts);
  const midnight = new Date(1000 * since).setHours(0, 0, 0, 0) / 1000;
  setText("since", `How often each class was seen since ${since - midnight < 60 ? "midnight" : timeOf(since, "minutes")}.`);
  showAlarm(alarm);
}

// Rows stay, so that a finger on one meets the same row a moment later.
function showCounts(counts) {
  const list = byId("today");
  const known = new Map([...list.children].map((row) => [row.dataset.label, row]));
  const rows = counts.map(({label}) => known.get(label) ?? todayRow(label));
  if (rows.length !== list.children.length || rows.some((row, i) => row !== list.children[i])) list.replaceChildren(...rows);
  counts.forEach((count, i) => updateRow(rows[i], count));
}

function todayRow(label) {
  const row = element("tr");
  const thumb = element("td", "thumb");
  const button = element("button", "plain");
  const name = element("th", "", human(label));
  row.dataset.label = label;
  button.type = "button";
  button.hidden = true;
  button.setAttribute("aria-label", `Last picture of ${human(label)}`);
  button.append(element("img"));
  button.firstChild.alt = "";
  button.addEventListener("click", () => {
    byId("large-picture").src = button.firstChild.src;
    const when = row.lastChild.textContent;
    setText("large-words", `${human(label)}, ${when === "in view" ? when : `last seen at ${when}`}`);
    byId("large").showModal();
  });
  thumb.append(button, element("span", "swatch"));
  name.scope = "row";
  row.append(thumb, name, element("td"), element("td"));
  return row;
}

function updateRow(row, {label, defect, count, last_at: lastAt, in_view: inView}) {
  const [button, swatch] = row.firstChild.children;
  const picture = defect ? pictures.get(label) : undefined;
  row.className = `${classOf(model.labels.indexOf(label))}${count ? "" : " zero"}`;
  button.hidden = !picture || !count;
  swatch.hidden = !button.hidden;
  if (picture && button.firstChild.src !== picture) button.firstChild.src = picture;
  row.children[2].textContent = whole(count);
  row.children[3].textContent = count === 0 ? "–" : inView && isLive() ? "in view" : timeOf(lastAt);
}

function showAlarm(alarm) {
  const open = alarm !== null && alarm.acknowledged_at === null;
  byId("alarm").hidden = !open;
  document.title = `${open ? "⚠ " : ""}${model.title ?? "camera"} · edgecnn`;
  setText("last-alarm", alarm && !open ? `Last alarm: ${human(alarm.label)} at ${timeOf(alarm.last_at)}, acknowledged at ${timeOf(alarm.acknowledged_at)}.` : "");
  if (!open) return;
  setText("alarm-label", human(alarm.label));
  const place = view && view.regions.length > 1 ? `, first at position ${alarm.region}` : "";  // what moves has left it
  const many = alarm.count > 1 ? ` · ${whole(alarm.count)} defects since ${timeOf(alarm.raised_at)}` : "";
  const when = timeOf(alarm.last_at);
  setText("alarm-words", (alarm.active && isLive() ? `In view since ${when}` : `Seen at ${when}`) + place + many);
}

byId("acknowledge").addEventListener("click", async () => {
  const button = byId("acknowledge");
  button.disabled = true;
  try {
    await fetch(addressOf(`api/acknowledge?number=${today.alarm.number}`), {method: "POST", headers: {"X-Edgecnn-Action": "acknowledge"}});
  } catch {
    // The banner stays, and so does the button.
  }
  button.disabled = false;
});

// Figures

function showDrift(found) {
  setText("drift", found?.drift ? `The pictures are not like those that this model was proven on; they are ${found.text}.` : "");
  byId("drift").hidden = !found?.drift;
  setText("drift-words", found ? `Drift of the pictures: ${found.text}.` : "");
  byId("drift-words").hidden = !found;
}

function showActions(found) {
  const troubles = found.filter((each) => each.trouble).map((each) => `${each.action}: ${each.trouble}`);
  setText("action-trouble", troubles.length ? `What should happen on an answer fails: ${troubles.join("; ")}.` : "");
  byId("action-trouble").hidden = troubles.length === 0;
  byId("actions").hidden = found.length === 0;
  byId("actions").replaceChildren(...found.map((each) => {
    const item = document.createElement("li");
    const counts = [`${each.done} done`, each.failed && `${each.failed} failed`, each.dropped && `${each.dropped} dropped`, each.waiting && `${each.waiting} waiting`];
    item.textContent = `${each.on}: ${each.action}: ${counts.filter(Boolean).join(", ")}${each.active ? ", on now" : ""}${each.trouble ? `; ${each.trouble}` : ""}`;
    if (each.trouble) item.classList.add("warn");
    return item;
  }));
}

function showStats(news) {
  stats = {...news, heardAt: Date.now()};
  setText("warning", stats.warning);
  byId("warning").hidden = !stats.warning;
  showDrift(stats.drift);
  showActions(stats.actions);
  if (stats.age_ms !== null) lastPictureAt = stats.now - stats.age_ms / 1000;
  const late = stats.age_ms !== null && stats.age_ms > 1500;
  setText("source", stats.state === "ok" ? stats.source : "");
  setText("caption", stats.state !== "ok" || lastPictureAt === null ? "" : `${late ? "last looked at" : "picture of"} ${timeOf(lastPictureAt)}`);
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
  const {ok, ...troubles} = stats.state_seconds;
  const parts = Object.entries(troubles).filter(([, seconds]) => seconds >= 1).map(([name, seconds]) => `, ${name} for ${duration(seconds)}`);
  setText("seconds", `Since the start: live for ${duration(ok)}${parts.join("")}.`);
  const errors = Object.entries(stats.sink_errors);
  byId("errors").hidden = !errors.length;
  setText("errors", `Failed writes: ${errors.map(([name, count]) => `${name} ${count}`).join(", ")}`);
  const ahead = stats.now - Date.now() / 1000;
  byId("clocks").hidden = Math.abs(ahead) < CLOCKS_S;
  setText("clocks", `The board's clock is ${duration(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} this device's.`);
}

function showClock() {
  const now = stats ? stats.now + (Date.now() - stats.heardAt) / 1000 : Date.now() / 1000;
  setText("clock", timeOf(now));
}

// Model card

function showModel(news) {
  model = news;
  setText("title", model.title);
  byId("bars").replaceChildren();
  showParity(model.parity);
  showFacts();
  const legend = model.labels.slice(0, 10).map((label, i) => element("li", classOf(i), human(label)));
  byId("legend").replaceChildren(...legend, element("li", "class-none", NONE), element("li", "trouble", "no picture"), element("li", "trouble failed", "model error"));
  showToday();
}

function showParity(parity) {
  byId("verdict").className = `badge ${parity.verdict.split(" ")[0]}`;
  setText("verdict", `Parity ${parity.verdict}`);
  setText("verdict-word", `Parity ${parity.verdict}:`);
  const data = parity.data;
  const on = data ? ` Compared on ${whole(data.count)} ${data.synthetic ? "synthetic " : ""}pictures (${data.source}, ${data.split}).` : "";
  setText("verdict-words", parity.meaning + on);
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
    ["Unsure", model.reject_threshold === null ? "never" : `below ${percent(model.reject_threshold)}`],
    ["Never seen", model.guard ?? "never: this model has no thresholds; export it again with its pictures"],
    ["Defects", model.defects.length ? model.defects.map(human).join(", ") : "no class"],
    ["Export", model.export_id],
  ].filter(([, value]) => value !== null);
  byId("model").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

// Strip chart: a dot for each answer, its probability upwards; bands where there was no believable picture

function remember() {
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
  pen.font = "12px system-ui, sans-serif";
  const box = {left: 48, right: width - 6, top: 8, bottom: height - 22};
  const end = history.at(-1)?.[0] ?? Date.now() / 1000;
  const x = (at) => box.right - (end - at) * (box.right - box.left) / CHART_S;
  const y = (p) => box.bottom - p * (box.bottom - box.top);
  drawGrid(pen, box, x, y, end, color);
  drawTroubles(pen, box, x, color);
  for (const [at, , answers] of history) {
    for (const [classId, p] of answers) {
      pen.fillStyle = color(classOf(classId));
      pen.fillRect(x(at) - 1, y(p) - 1.5, 2.2, 3);
    }
  }
  if (model.reject_threshold !== null) drawThreshold(pen, box, y(model.reject_threshold), color);
}

function drawGrid(pen, box, x, y, end, color) {
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
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const every = box.right - box.left > 420 ? 60 : 120;
  for (let at = Math.ceil((end - CHART_S) / every) * every; at <= end; at += every) {
    if (x(at) > box.left + 16 && x(at) < box.right - 14) pen.fillText(timeOf(at, "minutes"), x(at), box.bottom + 7);
  }
}

function drawThreshold(pen, box, y, color) {
  const words = `threshold ${percent(model.reject_threshold)}`;
  pen.strokeStyle = color("ink");
  pen.setLineDash([6, 4]);
  pen.beginPath();
  pen.moveTo(box.left, Math.round(y) + 0.5);
  pen.lineTo(box.right, Math.round(y) + 0.5);
  pen.stroke();
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillStyle = color("card");
  pen.fillRect(box.left + 4, y - 18, pen.measureText(words).width + 8, 16);
  pen.fillStyle = color("ink");
  pen.fillText(words, box.left + 8, y - 3);
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
      pen.fillStyle = color(state === "error" ? "error" : "stale");
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
  const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 4).map(([id, count]) => `${human(id < 0 ? null : model.labels[id])} ${percent(count / total)}`);
  byId("chart").setAttribute("aria-label", `Answers of the last five minutes: ${parts.join(", ") || "none"}`);
}

// Connection

const HEARD = {
  model: showModel,
  history: (news) => { history = news; },
  picture: (news) => { if (isLive()) showPicture(news); else frame = news; },
  view: (news) => {
    view = news;
    showState(view.state, view.reason ?? "");
    if (view.state === "ok") {
      if (frame && byId("picture").hidden) showPicture(frame);
      showAnswer();
    }
    remember();
  },
  stats: showStats,
  today: (news) => { today = news; showToday(); },
  defect: ({label, jpeg}) => { pictures.set(label, `data:image/jpeg;base64,${jpeg}`); showToday(); },
};

function connect() {
  clearTimeout(retryTimer);
  events?.close();
  openedAt = heardAt = Date.now();
  events = new EventSource("api/live");
  for (const [kind, hear] of Object.entries(HEARD)) {
    events.addEventListener(kind, (event) => {
      heardAt = Date.now();
      hear(JSON.parse(event.data));
      showRetry();
    });
  }
  events.addEventListener("error", () => lose("The board does not answer."));
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
  const isOpen = events?.readyState === EventSource.OPEN;
  if (isOpen && Date.now() - heardAt > SILENCE_MS) lose("The board has sent nothing for some seconds.");
  showRetry();
  showClock();
  if (byId("why").open) showAge();
  drawChart();
}, 500);
setInterval(describeChart, 10000);

// A page that nobody sees costs the board nothing, and leaves its connection to the pages that somebody sees.
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
