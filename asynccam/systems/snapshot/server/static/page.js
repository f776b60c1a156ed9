// Starts the page: views, the event stream, and who is told what it brings.

import { $, ask, make, refreshTimes, say } from "./dom.js";
import { forgetPicture, noteCapture, setUpActions, showCameras } from "./cameras.js";
import { addShot, loadGallery, offerCameras, removeShot, setUpGallery } from "./gallery.js";
import { setUpServer, showServer } from "./server.js";
import { setUpSettings, showAbout, showEntries } from "./settings.js";

/** Milliseconds that a lost connection may be mended in before much is made of it. */
const PATIENCE = 1500;
const AGAIN = 3000;
const MINUTE = 60000;
const LIVE = { connecting: "Connecting", live: "Live", lost: "Connection lost, trying again" };
const trouble = new Map();
let state = null;
let counted = 0;
let stream = null;
/** Whether something may have been missed, so that what is shown may be of another day. */
let missed = false;
let warning = 0;
let weighing = 0;

// -- views ----------------------------------------------------------------------------------------

function show(view) {
  document.documentElement.dataset.view = view;
  document.title = view === "settings" ? "Settings · Snapshot" : "Snapshot";
  // Relative to the base, it would lead to the other view.
  document.querySelector(".skip").href = view === "settings" ? "settings#main" : "./#main";
  for (const link of document.querySelectorAll("nav [data-go]")) {
    if (link.dataset.go === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function setUpViews() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-go]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (link.dataset.go !== document.documentElement.dataset.view) {
      history.pushState(null, "", link.href);
      show(link.dataset.go);
      scrollTo(0, 0);
      if (link.dataset.then) $(link.dataset.then).focus();
    else if (!link.closest("nav")) $("main").focus();
    }
  });
  addEventListener("popstate", () => show(location.pathname.endsWith("/settings") ? "settings" : "cameras"));
  show(document.documentElement.dataset.view);
}

// -- what the stream brings -----------------------------------------------------------------------

function onState(fresh) {
  state = fresh;
  showCameras(state.cameras);
  showEntries(state.cameras);
  showAbout(state);
  showServer(state);
  offerCameras(state.cameras.map((camera) => camera.name));
  showImu(state.imu);
  $("problems").hidden = state.problems.length === 0;
  $("problem-list").replaceChildren(...state.problems.map((one) => make("li", {}, problem(one))));
  // After a change of settings the gallery is as it was; after a pause it may not be.
  if (missed || state.store.pictures !== counted) loadGallery();
  if (missed) trouble.clear();
  showTrouble();
  missed = false;
  counted = state.store.pictures;
}

function problem(one) {
  const where = one.line === null ? "" : `Line ${one.line}, column ${one.column}: `;
  return where + (one.field ? `${one.field}: ` : "") + one.message;
}

function onCapture(event) {
  noteCapture(event);
  const camera = state && state.cameras.find((one) => one.name === event.camera);
  if (camera) {
    camera.phase = event.phase;
    camera.error = event.error;
  }
  if (event.snapshot) {
    addShot(event.snapshot);
    count(1, event.snapshot.size);
    if (camera) camera.last = event.snapshot;
  }
}

function onDeleted(event) {
  const size = removeShot(event.filename, event.camera);
  count(-1, -size);
  // How large one was that is not in the gallery is not known here.
  if (!size && !weighing) weighing = setTimeout(weigh, PATIENCE);
  forgetPicture(event.filename);
}

/** Ask how much there is now. */
async function weigh() {
  weighing = 0;
  const fresh = await ask("GET", "api/v1/state").catch(() => null);
  if (!fresh || !state) return;
  state.store = fresh.store;
  showAbout(state);
}

function count(by, size) {
  counted += by;
  if (state) {
    state.store.pictures += by;
    state.store.bytes += size;
    showAbout(state);
  }
}

function showImu(imu) {
  const reading = imu && imu.reading;
  $("imu").hidden = !reading;
  if (!reading) return;
  $("imu").toggleAttribute("data-stale", !imu.fresh);
  $("imu").title = imu.fresh ? "Goes into every picture" : "Too old to go into a picture";
  $("imu-old").hidden = imu.fresh;
  for (const axis of ["roll", "pitch", "yaw"]) $(`imu-${axis}`).textContent = `${reading[axis].toFixed(1)}°`;
  const sink = Math.max(-14, Math.min(14, reading.pitch / 4));
  $("ground").style.transform = `rotate(${-reading.roll}deg) translateY(${sink}px)`;
}

function showTrouble() {
  $("trouble").hidden = trouble.size === 0;
  $("trouble").replaceChildren(...[...trouble].map(([service, error]) => make("p", {}, `${service}: ${error}`)));
}

// -- the stream -----------------------------------------------------------------------------------

function live(word) {
  $("live").dataset.state = word;
  $("live-text").textContent = LIVE[word];
  if (word === "live") {
    clearTimeout(warning);
    warning = 0;
    if (!$("lost").hidden) say("Connected again");
    $("lost").hidden = true;
  } else if (!warning) {
    warning = setTimeout(() => { $("lost").hidden = false; }, PATIENCE);
  }
}

function listen() {
  stream = new EventSource("api/v1/events");
  const on = (kind, take) => stream.addEventListener(kind, (event) => take(JSON.parse(event.data)));
  on("state", onState);
  on("capture", onCapture);
  on("deleted", onDeleted);
  on("imu", (imu) => {
    if (state) { state.imu = imu; showAbout(state); }
    showImu(imu);
  });
  on("trouble", (event) => { trouble.set(event.service, event.error); showTrouble(); });
  on("restored", (event) => { trouble.delete(event.service); showTrouble(); });
  stream.addEventListener("open", () => live("live"));
  stream.addEventListener("error", () => {
    live("lost");
    missed = true;
    // A stream that was refused does not try again by itself, nor does it say why: what is asked for by hand does.
    if (stream.readyState === EventSource.CLOSED) {
      setTimeout(() => ask("GET", "api/v1/state").then(onState, () => {}).finally(listen), AGAIN);
    }
  });
}

setUpViews();
setUpActions();
setUpGallery();
setUpSettings();
setUpServer();
loadGallery();
listen();
setInterval(refreshTimes, MINUTE);
addEventListener("pagehide", () => stream.close());
// Come back to by the back button, as it was left.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  missed = true;
  listen();
});
