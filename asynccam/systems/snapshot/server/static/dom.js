// Small helpers: elements, requests, words, messages. Text always goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** An element: `make("p", {class: "sub"}, "text", child)`. Handlers are functions under `onclick` and the like. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** One of the icons of static/icons.svg. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** What stands for sight, and what is said: a label that screen readers get more of. */
export function unseen(text) {
  return make("span", { class: "unseen" }, text);
}

/** A path of the server's, relative to wherever the page is served. */
export const place = (path) => path.replace(/^\//, "");

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered ${status}.`);
    this.status = status;
    this.problems = problem.problems || [];
  }
}

/** Ask the API; the parsed answer, or `Refused` with the server's own words. */
export async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, { detail: "The server cannot be reached." });
  }
  if (response.status === 401) signIn();
  const type = response.headers.get("Content-Type") || "";
  const answer = type.includes("json") ? await response.json() : null;
  if (!response.ok) throw new Refused(response.status, answer || {});
  return answer;
}

/** Go where the token is asked for, and come back to this view. */
function signIn() {
  location.assign(document.documentElement.dataset.view === "settings" ? "login?next=settings" : "login");
}

// -- words ----------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** "14:03:27" today, "3 Mar, 14:03:27" before. */
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

/** The same as an element that stays true when the day ends, see `refreshTimes`. */
export function timeOf(seconds) {
  const datetime = new Date(seconds * 1000).toISOString();
  return make("time", { datetime, "data-at": seconds, title: wholeMoment(seconds) }, moment(seconds));
}

export function refreshTimes() {
  for (const time of document.querySelectorAll("time[data-at]")) {
    const words = moment(Number(time.dataset.at));
    if (time.textContent !== words) time.textContent = words;
  }
}

/** A name within a sentence: whatever its letters do to the direction of writing ends with it. */
export const named = (name) => `\u2068${name}\u2069`;

export const wholeMoment = (seconds) => whole.format(new Date(seconds * 1000));

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  do { value /= 1000; unit += 1; } while (value >= 1000 && unit < 3);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** The server's words as a sentence of their own; names at its beginning stay as they are. */
export function sentence(text) {
  const begun = /^[a-z]+[ ,.]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

// -- messages -------------------------------------------------------------------------------------

const STAY = 6000;

/**
 * Tell something for some seconds; what went wrong stays until it is closed. What is told about the same
 * thing (a camera, say) takes the place of what was told before.
 */
export function tell(text, bad = false, about = null) {
  if (about !== null) untell(about);
  // What lies behind an open dialog can neither be seen, nor heard, nor clicked.
  const inside = $("viewer").open ? "viewer-" : "";
  const shelf = $(inside + (bad ? "alerts" : "toasts"));
  const close = make("button", { class: "button icon quiet", type: "button", "aria-label": "Dismiss" }, icon("close"));
  const toast = make("div", { class: bad ? "toast bad" : "toast" }, make("p", { title: text }, text), close);
  if (about !== null) toast.dataset.about = about;
  close.addEventListener("click", () => toast.remove());
  while (shelf.children.length > 2) shelf.firstElementChild.remove();
  shelf.append(toast);
  if (!bad) setTimeout(() => toast.remove(), STAY);
}

/** What was told about it is over. */
export function untell(about) {
  for (const toast of document.querySelectorAll(".toast")) if (toast.dataset.about === about) toast.remove();
}

/** Say something to those who cannot see it happen. */
export function say(text) {
  $("said").textContent = text;
}

/** Answers the latest question, if it is not answered yet. */
let answer = () => {};

/** Ask for a yes in a dialog. */
export function sure(title, text, yes = "Delete") {
  const dialog = $("ask");
  answer(); // a dialog tells late that it was closed: the next question may be open by then
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => dialog.open || answer();
    answer = () => {
      dialog.removeEventListener("close", closed);
      answer = () => {};
      resolve(dialog.returnValue === "yes");
    };
    dialog.addEventListener("close", closed);
  });
}
