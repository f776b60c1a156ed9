// The live list of cameras: last picture, state, and the buttons that take pictures.

import { $, ask, count, icon, make, named, place, say, sentence, tell, timeOf, unseen, untell } from "./dom.js";
import { findFlaw, openViewer } from "./gallery.js";

const WORDS = { idle: "Ready", waiting: "Waiting", capturing: "Capturing", failed: "Failed" };

/** Seconds after which it is said how long a capture has taken. */
const SLOW = 2;

const cards = new Map();
let ticking = 0;

/** Show these cameras, and no others. */
export function showCameras(list) {
  const names = new Set(list.map((camera) => camera.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.root.remove();
      cards.delete(name);
    }
  }
  list.forEach((camera, index) => {
    let card = cards.get(camera.name);
    if (!card) {
      card = new Card(camera.name);
      cards.set(camera.name, card);
    }
    card.describe(camera);
    const there = $("cameras").children[index];
    if (there !== card.root) $("cameras").insertBefore(card.root, there || null);
  });
  $("no-cameras").hidden = list.length > 0;
  const stereo = list.filter((camera) => camera.stereo).length;
  tellBusy();
  $("capture-all").disabled = list.length === 0;
  $("capture-stereo").disabled = stereo === 0;
}

/** How many there are, and how many of them are at work. */
function tellBusy() {
  const all = [...cards.values()];
  const busy = all.filter((card) => card.busy).length;
  const stereo = all.filter((card) => !card.pair.hidden).length;
  const more = busy ? `, ${busy} at work` : stereo ? `, ${stereo} of them stereo` : "";
  $("cameras-sub").textContent = all.length ? count(all.length, "camera", "cameras") + more : "Nothing to capture from yet";
  if (busy && !ticking) ticking = setInterval(() => cards.forEach((card) => card.tick()), 1000);
  if (!busy) { clearInterval(ticking); ticking = 0; }
}

/** Take in what an event tells of a camera. */
export function noteCapture(event) {
  const card = cards.get(event.camera);
  if (card) card.note(event.phase, event.error, event.snapshot);
  tellBusy();
}

/** A picture is gone: a camera that showed it shows the one before. */
export async function forgetPicture(filename) {
  for (const card of cards.values()) {
    if (card.last && card.last.filename === filename) {
      const page = await ask("GET", `api/v1/snapshots?limit=1&camera=${encodeURIComponent(card.name)}`).catch(() => null);
      card.picture(page && page.items.length ? page.items[0] : null);
    }
  }
}

/** Make the buttons for several cameras work. */
export function setUpActions() {
  $("capture-all").addEventListener("click", () => captureGroup($("capture-all"), "all"));
  $("capture-stereo").addEventListener("click", () => captureGroup($("capture-stereo"), "stereo"));
}

async function captureGroup(button, group) {
  if (button.getAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  say("Capturing");
  try {
    const { results, spread } = await ask("POST", "api/v1/captures", { group });
    const failed = results.filter((one) => one.error !== null);
    const taken = results.length - failed.length;
    if (taken) {
      const within = spread !== null && group === "stereo" ? ` within ${(spread * 1000).toFixed(spread < 0.01 ? 1 : 0)} ms` : "";
      tell(`${count(taken, "picture", "pictures")} taken${within}`);
    }
    for (const one of failed.slice(0, 3)) tell(`${named(one.camera)}: ${one.error}`, true, one.camera);
  } catch (error) {
    tell(error.message, true);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

class Card {
  constructor(name) {
    this.name = name;
    this.last = null;
    this.busy = false;
    this.since = Date.now();
    this.image = null;
    this.blank = icon("camera");
    this.broken = make("span", { class: "broken" }, "Broken picture");
    this.frame = make("button", { class: "picture", type: "button", disabled: true, onclick: () => openViewer(this.last) });
    this.state = make("span", { class: "pill state" });
    this.pair = make("span", { class: "pill", hidden: true }, "Stereo");
    this.running = make("span", { class: "running", "aria-hidden": "true" });
    this.title = make("h2", { dir: "auto" }, name);
    this.setup = make("p", { class: "sub" });
    this.when = make("p", { class: "sub" });
    this.why = make("p", { class: "why", hidden: true });
    this.shoot = make("button", { class: "button", type: "button", onclick: () => this.capture() },
      icon("shutter"), "Capture", unseen(` ${name}`));
    this.frame.append(this.blank, this.running);
    const shown = make("div", { class: "shown" }, make("div", { class: "pills" }, this.state, this.pair), this.frame);
    this.root = make("li", { class: "camera", "data-camera": name, "data-phase": "idle" }, shown,
      make("div", { class: "about-camera" }, make("div", {}, this.title, this.setup, this.when), this.shoot, this.why));
  }

  describe(camera) {
    this.setup.textContent = `${camera.width} × ${camera.height} · ${camera.pixel_format}`;
    this.setup.title = camera.device_path;
    this.pair.hidden = !camera.stereo;
    this.phase(camera.phase, camera.error);
    this.picture(camera.last);
  }

  note(phase, error, snapshot) {
    this.phase(phase, error);
    if (snapshot) this.picture(snapshot);
  }

  phase(phase, error) {
    const before = this.root.dataset.phase;
    this.root.dataset.phase = phase;
    this.busy = phase === "capturing" || phase === "waiting";
    this.root.setAttribute("aria-busy", String(this.busy));
    if (phase !== before) this.since = Date.now();
    this.tick();
    if (phase === "idle" && before !== "idle") untell(this.name);
    const why = phase === "failed" ? sentence(error || "the capture failed") : "";
    if (this.why.textContent !== why) this.why.textContent = why;
    this.why.hidden = !why;
  }

  /** Say what it does, and for how long when that is long. */
  tick() {
    const seconds = Math.floor((Date.now() - this.since) / 1000);
    const words = WORDS[this.root.dataset.phase] + (this.busy && seconds >= SLOW ? ` ${seconds} s` : "");
    if (this.state.textContent !== words) this.state.textContent = words;
  }

  picture(snapshot) {
    const before = this.last && this.last.filename;
    this.last = snapshot;
    this.when.replaceChildren(...snapshot ? ["Last picture ", timeOf(snapshot.taken_at)] : ["No picture yet"]);
    this.frame.disabled = !snapshot;
    this.frame.setAttribute("aria-label", snapshot ? `Last picture of ${this.name}` : `No picture of ${this.name} yet`);
    this.blank.toggleAttribute("hidden", Boolean(snapshot));
    if (!snapshot) {
      if (this.image) this.image.remove();
      this.broken.remove();
      this.image = null;
    } else if (snapshot.filename !== before) {
      this.broken.remove();
      // The one before stays until the new one is there, so that nothing flickers.
      const image = make("img", { alt: "", decoding: "async" });
      const old = this.image;
      this.image = image;
      image.addEventListener("load", () => old && old.remove(), { once: true });
      image.addEventListener("error", async () => {
        image.remove();
        if (old) old.remove();
        await findFlaw(snapshot);
        if (this.image === image && snapshot.flaw) this.frame.append(this.broken);
      }, { once: true });
      image.src = place(`${snapshot.thumbnail_url_path}?side=800`);
      this.frame.insertBefore(image, this.running);
    }
  }

  async capture() {
    if (this.shoot.getAttribute("aria-disabled")) return;
    this.shoot.setAttribute("aria-disabled", "true");
    say(`Capturing ${this.name}`);
    try {
      await ask("POST", `api/v1/cameras/${encodeURIComponent(this.name)}/captures`);
      untell(this.name);
      say(`Picture of ${this.name} taken`);
    } catch (error) {
      tell(`${named(this.name)}: ${error.message}`, true, this.name);
    } finally {
      this.shoot.removeAttribute("aria-disabled");
    }
  }
}
