// Samples in groups of what looks alike; one key or tap labels the marked group, and the next one is marked.
// All addresses are relative, since the page may stand behind a proxy. Changes are POSTs without a body, with the token that
// came with the list: a page of elsewhere cannot have read it.

const OTHER = "_other";
const BAD = "_bad";
const KEYS = "123456789";
const AT_ONCE = 80;  // names of samples in one address
const HINT = matchMedia("(pointer: coarse)").matches
  ? "A label is for the marked group. Tap one of its pictures to leave it out."
  : "A label is for the marked group. Arrows move, and space leaves a picture out.";
const WHY = {novel: "like nothing known", unsure: "unsure", disagrees: "disagrees with the smoothed answer", random: "random"};

const byId = (id) => document.getElementById(id);
const human = (label) => (label === OTHER ? "none of these" : label === BAD ? "bad picture" : label.replaceAll("_", " "));
let list = {groups: [], classes: [], may_edit: false, csrf: ""};
let cards = [];
let current = 0;
let cursor = -1;
let busy = Promise.resolve();
let waiting = 0;
let byKey = new Map();
const acts = [];

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text) {
  byId("said").textContent = text;
}

function complain(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

// The list

async function load() {
  let answer;
  try {
    answer = await fetch(`api/review?sort=${byId("sort").value}&show=${byId("show").value}`);
  } catch {
    complain("No connection.");
    return;
  }
  const body = await answer.json().catch(() => ({error: `The server answered ${answer.status}.`}));
  if (!answer.ok) {
    complain(body.error);
    return;
  }
  list = body;
  complain(list.damaged_lines ? `${list.damaged_lines} lines of labels.jsonl cannot be read and are not counted.` : "");
  byId("title").textContent = `Review: ${list.folder}`;
  byId("tabs").hidden = !list.has_camera;
  current = 0;
  cursor = -1;
  showCounts();
  showGroups();
  showClasses();
  mark(firstOpen(0) ?? 0, false);
  say(HINT);
}

function showCounts() {
  const left = list.left ? `, ${list.left} more when these are done` : "";
  const broken = list.broken ? `, ${list.broken} damaged` : "";
  byId("counts").textContent = `${list.labelled} of ${list.samples} labelled${left}${broken}${waiting ? ", saving…" : ""}`;
}

function showGroups() {
  cards = list.groups.map((samples, index) => {
    const card = element("section", "group card");
    const line = element("p");
    const shots = element("div", "shots");
    shots.append(...samples.map((sample) => shot(sample)));
    card.append(line, shots);
    card.addEventListener("click", (event) => choose(index, event));
    const made = {card, line, samples, out: new Set(), shots: [...shots.children]};
    describe(made);
    return made;
  });
  byId("groups").replaceChildren(...cards.map(({card}) => card));
  byId("palette").hidden = !cards.length || !list.may_edit;
  byId("empty").hidden = cards.length > 0;
  byId("empty").textContent = list.samples ? "Nothing left to do here." : "No samples yet: a camera with --keep makes them.";
  if (cards.length && !list.may_edit) complain("You may look. Labelling needs the editor's token.");
}

function shot(sample) {
  const made = element("button", "shot");
  made.type = "button";
  made.tabIndex = -1;
  made.title = `${sample.sample}, ${new Date(sample.at).toLocaleString()}`;
  if (!sample.picture) {
    gone(made);
    return made;
  }
  const picture = element("img");
  picture.loading = "lazy";
  picture.decoding = "async";
  picture.alt = `${sample.guess ?? "sample"} of ${sample.at}`;
  picture.addEventListener("error", () => gone(made));
  picture.addEventListener("load", () => drawWhere(made, picture, sample.where));
  picture.src = `api/review/picture?sample=${encodeURIComponent(sample.sample)}`;
  made.append(picture);
  return made;
}

function gone(made) {
  made.classList.add("gone");
  made.replaceChildren("the picture is gone");
}

// What spoke for the answer: a dashed box. The picture is fitted into a square.
function drawWhere(made, picture, where) {
  if (!where) return;
  const side = Math.max(picture.naturalWidth, picture.naturalHeight);
  const [x, y, w, h] = where;
  const across = picture.naturalWidth / side;
  const down = picture.naturalHeight / side;
  const box = element("i");
  Object.assign(box.style, {
    left: `${100 * ((1 - across) / 2 + x * across)}%`, top: `${100 * ((1 - down) / 2 + y * down)}%`,
    width: `${100 * w * across}%`, height: `${100 * h * down}%`,
  });
  made.append(box);
}

function describe({card, line, samples}) {
  const first = samples[0];
  const guess = first.guess === null ? "" : `${human(first.guess)} ${(100 * first.probability).toFixed(0)}\u202f%`;
  const novelty = first.novelty === null ? "" : `novelty ${first.novelty.toFixed(2)}`;
  const nearest = first.nearest && first.nearest !== first.guess ? `nearest to ${human(first.nearest)}` : "";
  const why = first.kept.map((reason) => WHY[reason] ?? reason).join(", ");
  const labels = [...new Set(samples.filter(({label}) => label).map(({label, by}) => `${human(label)} (${by})`))];
  line.replaceChildren(
    element("span", "answer", `${samples.length > 1 ? `${samples.length} alike: ` : ""}${guess}`),
    element("span", "why", [why, novelty, nearest].filter(Boolean).join(" · ")),
  );
  if (labels.length) line.append(element("span", "now-label", `✓ ${labels.join(", ")}`));
  const contradiction = samples.find((sample) => sample.contradiction)?.contradiction;
  if (contradiction) line.append(element("span", "contradiction", contradiction));
  card.classList.toggle("labelled", samples.every(({label}) => label));
  card.setAttribute("aria-label", line.textContent);
}

// The training pictures that the model finds most like the marked group's first sample, where they are on this machine.
async function showNearest(card, scroll) {
  if (!list.has_training || card.near) return;
  card.near = element("div", "near");
  card.card.append(card.near);
  const first = card.samples.find(({picture}) => picture);
  const query = `sample=${encodeURIComponent(first?.sample ?? "")}`;
  const answer = await fetch(`api/review/nearest?${query}`).catch(() => null);
  const found = answer?.ok ? (await answer.json()).nearest : [];
  if (!found.length) return;
  card.near.append(element("p", "", "Nearest training pictures"), ...found.map(({number, label, name: file, distance}) => {
    const figure = element("figure");
    const picture = element("img");
    picture.alt = `training picture of ${human(label)}`;
    picture.title = `${file}, distance ${distance.toFixed(2)}`;
    picture.addEventListener("error", () => figure.remove());
    picture.src = `api/review/training?number=${number}`;
    figure.append(picture, element("figcaption", "", human(label)));
    return figure;
  }));
  if (scroll && cards[current] === card) card.card.scrollIntoView({block: "nearest", behavior: "instant"});  // it has grown
}

// A class that is called by a digit has that key; the others have what is left of 1 to 9.
function keysOf(classes) {
  const taken = new Set(classes.filter((label) => /^[0-9]$/.test(label)));
  const free = [...KEYS].filter((key) => !taken.has(key));
  return classes.map((label) => (taken.has(label) ? label : free.shift()));
}

function showClasses() {
  const keys = keysOf(list.classes);
  byKey = new Map(list.classes.map((label, i) => [keys[i], label]));
  const buttons = list.classes.map((label, i) => {
    const button = element("button", `class-${i % 10}`);
    button.type = "button";
    if (keys[i]) button.append(element("kbd", "", keys[i]));
    button.append(human(label));
    button.addEventListener("click", () => label_(label));
    return button;
  });
  byId("classes").replaceChildren(...buttons);
  byId("known").replaceChildren(...list.classes.map((label) => {
    const option = element("option");
    option.value = label;
    return option;
  }));
}

// Where we are

const firstOpen = (from) => {
  for (let i = from; i < cards.length; i += 1) if (!cards[i].card.classList.contains("labelled")) return i;
  return null;
};

function mark(index, scroll = true) {
  cards[current]?.card.classList.remove("current");
  cards[current]?.card.removeAttribute("aria-current");
  cards[current]?.shots[cursor]?.classList.remove("cursor");
  current = Math.max(0, Math.min(cards.length - 1, index));
  cursor = -1;
  const card = cards[current]?.card;
  if (!card) return;
  card.classList.add("current");
  card.setAttribute("aria-current", "true");
  showNearest(cards[current], scroll);
  if (scroll) card.scrollIntoView({block: "nearest", behavior: "instant"});
}

function moveCursor(step) {
  const {shots} = cards[current];
  shots[cursor]?.classList.remove("cursor");
  cursor = Math.max(0, Math.min(shots.length - 1, cursor + step));
  shots[cursor].classList.add("cursor");
  if (shots.length > 1) say("Space leaves this picture out of the group.");
}

function toggle(index) {
  const {samples, out, shots} = cards[current];
  const name = samples[index]?.sample;
  if (!name || samples.length < 2) return;  // of one there is nothing to leave it out of
  if (out.has(name)) out.delete(name);
  else out.add(name);
  shots[index].classList.toggle("out", out.has(name));
}

function choose(index, event) {
  const inside = cards[index].shots.indexOf(event.target.closest(".shot"));
  const wasCurrent = index === current;
  mark(index, false);
  if (wasCurrent && inside >= 0 && cards[index].samples.length > 1) toggle(inside);
}

// What is said. One thing after the other, so that an undo finds what it takes back; the page does not wait.

const person = () => byId("by").value.trim() || "editor";

function post(path, pairs, again = true) {
  const query = new URLSearchParams([...pairs, ["by", person()]]);
  const headers = {"X-Edgecnn-Action": "review", "X-Edgecnn-CSRF": list.csrf};
  return fetch(`${path}?${query}`, {method: "POST", headers}).then(async (answer) => {
    if (answer.status === 403 && again) {  // the page is old: its list brings another token
      const fresh = await fetch("api/review?show=unlabelled");
      if (fresh.ok) list.csrf = (await fresh.json()).csrf;
      return post(path, pairs, false);
    }
    const body = await answer.json().catch(() => ({error: `The server refuses: ${answer.status}.`}));
    if (!answer.ok) throw new Error(body.error);
    return body;
  });
}

function label_(label) {
  const card = cards[current];
  if (!card || !list.may_edit) return;
  const chosen = card.samples.filter(({sample}) => !card.out.has(sample));
  if (!chosen.length) {
    say("Every picture of this group is left out.");
    return;
  }
  const before = chosen.map((sample) => ({...sample}));
  const act = {card, chosen, before, ids: []};
  acts.push(act);
  const fresh = chosen.filter((sample) => !sample.label).length;
  for (const sample of chosen) Object.assign(sample, {label, by: person(), contradiction: null});
  list.labelled += fresh;
  if (card.out.size) {
    // Those that were left out are what remains of the group.
    card.out.clear();
    card.shots.forEach((shot_) => shot_.classList.remove("out"));
    chosen.forEach((sample) => { card.shots[card.samples.indexOf(sample)].hidden = true; });
  }
  describe(card);
  showCounts();
  say(`${chosen.length === 1 ? "1 picture" : `${chosen.length} pictures`}: ${human(label)}`);
  const rest = card.samples.some((sample) => !sample.label);
  mark(rest ? current : firstOpen(current + 1) ?? firstOpen(0) ?? current);
  queue(() => send(act, label), (error) => {
    takeBack(act);
    complain(`Not labelled: ${error.message}`);
  });
}

function queue(work, failed) {
  waiting += 1;
  showCounts();
  busy = busy.then(work).catch(failed).finally(() => {
    waiting -= 1;
    showCounts();
  });
}

async function send(act, label) {
  const names = act.chosen.map(({sample}) => sample);
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const part = names.slice(at, at + AT_ONCE).map((name) => ["sample", name]);
    const body = await post("api/review/label", [["label", label], ...part]);
    act.ids.push(body.act);
    for (const sample of act.chosen) if (body.contradicts[sample.sample]) sample.contradiction = body.contradicts[sample.sample];
  }
  describe(act.card);
  complain("");
  if (!list.classes.includes(label) && !label.startsWith("_")) {
    list.classes.push(label);
    showClasses();
  }
}

function takeBack(act) {
  act.chosen.forEach((sample, i) => {
    const {label, by, contradiction} = act.before[i];
    list.labelled -= !label && sample.label ? 1 : 0;
    Object.assign(sample, {label, by, contradiction});
    act.card.shots[act.card.samples.indexOf(sample)].hidden = false;
  });
  if (acts.includes(act)) acts.splice(acts.indexOf(act), 1);
  describe(act.card);
  showCounts();
}

function undo() {
  const act = acts.at(-1);
  if (!act) {
    say("Nothing to undo on this page.");
    return;
  }
  takeBack(act);
  mark(cards.indexOf(act.card));
  say("Undone.");
  queue(async () => {
    for (const id of act.ids) await post("api/review/undo", [["act", id]]);
  }, (error) => complain(`Not undone: ${error.message}`));
}

function name() {
  byId("class-name").value = "";
  byId("naming").showModal();
}

// At once and not when the dialog says that it has closed: the next key may have come by then.
function named(event, isMeant) {
  event.preventDefault();
  byId("naming").close();
  const label = byId("class-name").value.trim();
  if (isMeant && label) label_(label);
}

byId("naming").addEventListener("submit", (event) => named(event, event.submitter?.value !== "cancel"));
byId("class-name").addEventListener("keydown", (event) => {
  if (event.key === "Enter") named(event, true);
});

const ACTIONS = {
  n: name, 0: () => label_(OTHER), o: () => label_(OTHER), b: () => label_(BAD), u: undo,
  ArrowDown: () => mark(current + 1), j: () => mark(current + 1), ArrowUp: () => mark(current - 1), k: () => mark(current - 1),
  ArrowRight: () => moveCursor(1), ArrowLeft: () => moveCursor(-1), " ": () => toggle(Math.max(0, cursor)), x: () => toggle(Math.max(0, cursor)),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, dialog, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !cards.length) return;
  if (event.target.closest("a, button") && [" ", "Enter"].includes(event.key)) return;
  const action = byKey.has(event.key) ? () => label_(byKey.get(event.key)) : ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

byId("new").addEventListener("click", name);
byId("other").addEventListener("click", () => label_(OTHER));
byId("bad").addEventListener("click", () => label_(BAD));
byId("skip").addEventListener("click", () => mark(current + 1));
byId("undo").addEventListener("click", undo);
byId("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("by").blur();  // the next key is a label again
});
for (const id of ["show", "sort"]) {
  byId(id).addEventListener("change", () => {
    byId(id).blur();
    acts.length = 0;
    busy.then(load);
  });
}
// The buttons lie over the list: as much of it is kept free.
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--palette", `${byId("palette").offsetHeight}px`);
}).observe(byId("palette"));
byId("by").value = localStorage.getItem("edgecnn-by") ?? "";
byId("by").addEventListener("change", () => localStorage.setItem("edgecnn-by", byId("by").value));
load();
