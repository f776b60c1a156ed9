// The pictures there are, newest first, and the dialog that shows one of them whole.

import { $, ask, bytes, count, icon, make, place, say, sure, tell, timeOf, unseen, wholeMoment } from "./dom.js";

const PAGE = 24;
const LARGEST = 96;
/** The API gives no more at once. */
const MOST = 1000;
/** How often a list is fetched anew that was overtaken by a change. */
const TRIES = 5;

let shots = [];
let next = null;
let total = 0;
let camera = "";
let asked = 0;
/** Counts what was told of pictures that came and went. */
let changes = 0;
let shown = null;
let lastShown = null;
let opener = null;
let loading = false;
/** Whether older pictures come by themselves when one scrolls to the end: not before they were asked for once. */
let flowing = false;

const watch = new IntersectionObserver((entries) => {
  if (flowing && entries.some((one) => one.isIntersecting)) loadMore();
}, { rootMargin: "600px" });

/** Fetch the newest pictures anew, as many as there were. */
export async function loadGallery(many = Math.min(MOST, Math.max(PAGE, shots.length))) {
  const mine = ++asked;
  let page = null;
  let before = null;
  for (let tries = 0; tries < TRIES && before !== changes; tries += 1) {
    before = changes; // what is told meanwhile may be younger than the answer
    page = await fetchPage(null, many);
    if (mine !== asked || !page) return;
  }
  const there = new Map([...$("shots").children].map((item) => [item.dataset.filename, item]));
  const held = document.activeElement;
  shots = page.items;
  next = page.next;
  total = page.total;
  $("shots").replaceChildren(...shots.map((shot) => there.get(shot.filename) || tile(shot)));
  if ($("shots").contains(held)) held.focus({ preventScroll: true });
  tellCount();
}

/** A picture was taken. */
export function addShot(shot) {
  changes += 1;
  if ((camera && shot.camera !== camera) || shots.some((one) => one.filename === shot.filename)) return;
  let index = shots.findIndex((one) => one.taken_at <= shot.taken_at);
  if (index < 0) index = shots.length;
  shots.splice(index, 0, shot);
  const item = tile(shot);
  item.classList.add("new");
  $("shots").insertBefore(item, $("shots").children[index] || null);
  total += 1;
  tellCount();
}

/** A picture of that camera is gone; its size, as far as it is known. */
export function removeShot(filename, of) {
  changes += 1;
  const index = shots.findIndex((one) => one.filename === filename);
  if (index < 0) {
    // One further down than was looked.
    if ((!camera || camera === of) && total > shots.length) total -= 1;
    tellCount();
    return 0;
  }
  const [{ size }] = shots.splice(index, 1);
  const item = $("shots").children[index];
  const held = item.contains(document.activeElement);
  item.remove();
  total -= 1;
  if (held) focusNear(index);
  if (shown && shown.filename === filename) step(0, index);
  tellCount();
  return size;
}

/** The cameras that pictures can be chosen by. */
export function offerCameras(names) {
  const pick = $("gallery-camera");
  // A list that is being chosen from is not pulled away.
  if (JSON.stringify(names) === JSON.stringify([...pick.options].slice(1).map((one) => one.value))) return;
  const options = ["", ...names].map((name) => make("option", { value: name }, name || "All cameras"));
  pick.replaceChildren(...options);
  pick.value = names.includes(camera) ? camera : "";
  if (pick.value !== camera) {
    camera = "";
    loadGallery(PAGE);
  }
}

export function setUpGallery() {
  $("gallery-camera").addEventListener("change", (event) => {
    camera = event.target.value;
    flowing = false;
    loadGallery(PAGE);
  });
  $("more").addEventListener("click", async (event) => {
    const first = shots.length;
    flowing = true;
    await loadMore();
    // By keyboard one goes on with what came; a mouse stays where it is.
    const item = $("shots").children[first];
    if (item && event.detail === 0) item.querySelector("button").focus();
  });
  watch.observe($("more"));
  $("viewer-close").addEventListener("click", () => $("viewer").close());
  $("viewer-newer").addEventListener("click", () => step(-1));
  $("viewer-older").addEventListener("click", () => step(1));
  $("viewer-delete").addEventListener("click", () => shown && remove(shown));
  $("viewer").addEventListener("close", onClose);
  $("viewer-picture").addEventListener("error", () => { $("viewer-broken").hidden = false; });
  $("viewer").addEventListener("click", (event) => { if (event.target === $("viewer")) $("viewer").close(); });
  $("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Delete" && shown) remove(shown);
  });
}

/** Show one picture whole. */
export function openViewer(shot) {
  if (!shot) return;
  shown = lastShown = shot;
  tellFlaw(shot);
  $("viewer-title").textContent = shot.camera || shot.filename;
  $("viewer-sub").textContent = `${wholeMoment(shot.taken_at)} · ${bytes(shot.size)}${orientation(shot.imu)}`;
  $("viewer-picture").src = place(shot.image_url_path);
  $("viewer-picture").alt = title(shot);
  $("viewer-download").href = place(shot.download_url_path);
  tellWhere();
  if (!$("viewer").open) {
    opener = document.activeElement;
    $("viewer").showModal();
  }
}

// -- within ---------------------------------------------------------------------------------------

const indexOf = (shot) => shots.findIndex((one) => one.filename === shot.filename);

/** Which of the pictures is looked at. */
function tellWhere() {
  const index = indexOf(shown);
  $("viewer-where").textContent = index < 0 ? "" : `${index + 1} of ${total}`;
  able($("viewer-newer"), index > 0);
  able($("viewer-older"), index >= 0 && (index < shots.length - 1 || next !== null));
}

/** A button that cannot be used keeps the focus, or the arrow keys would go with it. */
function able(button, yes) {
  if (yes) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

/** Back to the picture that was looked at last, which may be another one than the first, or gone. */
function onClose() {
  shown = null;
  $("viewer-picture").removeAttribute("src");
  $("alerts").append(...$("viewer-alerts").children);
  $("toasts").append(...$("viewer-toasts").children);
  if (opener && opener.isConnected && !opener.disabled && !$("shots").contains(opener)) return;
  const index = indexOf(lastShown);
  const older = shots.findIndex((one) => one.taken_at <= lastShown.taken_at);
  focusNear(index >= 0 ? index : older >= 0 ? older : shots.length - 1);
}

const title = (shot) => `${shot.camera || shot.filename}, ${wholeMoment(shot.taken_at)}`;

function orientation(imu) {
  if (!imu) return "";
  const degrees = (value) => `${value.toFixed(1)}°`;
  return ` · roll ${degrees(imu.roll)}, pitch ${degrees(imu.pitch)}, yaw ${degrees(imu.yaw)}`;
}

/** Why there is no thumbnail of a picture: the server reads it, and says what is wrong with it. */
export async function findFlaw(shot) {
  try {
    await ask("GET", place(shot.thumbnail_url_path));
  } catch (error) {
    if (error.status === 502) shot.flaw = error.message;
  }
  if (shot.flaw && shown && shown.filename === shot.filename) tellFlaw(shot);
}

/** A browser shows half a picture without a word, so the words come first. */
function tellFlaw(shot) {
  $("viewer-broken").hidden = !shot.flaw;
  $("viewer-broken").textContent = shot.flaw
    ? `This picture is broken: ${shot.flaw}. What there is of it can be downloaded.`
    : "This picture cannot be shown. It may have been deleted.";
}

function tile(shot) {
  const image = make("img", { src: place(shot.thumbnail_url_path), alt: title(shot), loading: "lazy", decoding: "async" });
  const picture = make("button", { class: "picture", type: "button", onclick: () => openViewer(shot) }, image);
  image.addEventListener("error", async () => {
    await findFlaw(shot);
    picture.append(make("span", { class: "broken" }, shot.flaw ? "Broken picture" : "Cannot be shown"));
  }, { once: true });
  const download = make("a", { class: "button icon quiet", href: place(shot.download_url_path), download: shot.filename },
    icon("download"), unseen(`Download ${title(shot)}`));
  const bin = make("button", { class: "button icon quiet", type: "button", onclick: () => remove(shot) },
    icon("bin"), unseen(`Delete ${title(shot)}`));
  const words = make("div", {}, make("p", { class: "name", dir: "auto", title: shot.camera || shot.filename }, shot.camera || shot.filename),
    make("p", { class: "sub" }, timeOf(shot.taken_at)));
  return make("li", { class: "shot", "data-filename": shot.filename }, picture,
    make("div", { class: "shot-bar" }, words, download, bin));
}

function tellCount() {
  const some = shots.length < total ? `, the newest ${shots.length} are shown` : "";
  $("gallery-sub").textContent = total ? count(total, "picture", "pictures") + some : "";
  if (shown) tellWhere();
  $("no-shots").hidden = shots.length > 0;
  $("gallery-pick").hidden = shots.length === 0 && !camera;
  $("more").hidden = next === null;
}

async function fetchPage(after, many) {
  const query = new URLSearchParams({ limit: String(many) });
  if (after) query.set("after", after);
  if (camera) query.set("camera", camera);
  try {
    return await ask("GET", `api/v1/snapshots?${query}`);
  } catch (error) {
    tell(error.message, true);
    return null;
  }
}

async function loadMore() {
  if (loading || !next) return;
  loading = true;
  const mine = asked;
  // The further one goes, the more there is to go through.
  const page = await fetchPage(next, Math.min(LARGEST, Math.max(PAGE, shots.length)));
  loading = false;
  if (!page || mine !== asked) return;
  const known = new Set(shots.map((one) => one.filename));
  const fresh = page.items.filter((one) => !known.has(one.filename));
  shots.push(...fresh);
  next = page.next;
  $("shots").append(...fresh.map((shot) => tile(shot)));
  tellCount();
  // It tells of changes only, and the end may still be in sight.
  watch.unobserve($("more"));
  watch.observe($("more"));
  say(`${shots.length} of ${count(total, "picture", "pictures")} shown`);
}

async function remove(shot) {
  if (!await sure("Delete this picture?", `${title(shot)} will be gone for good.`)) return;
  try {
    await ask("DELETE", `api/v1/snapshots/${encodeURIComponent(shot.filename)}`);
  } catch (error) {
    if (error.status !== 404) {
      tell(error.message, true);
      return;
    }
  }
  // The stream tells that it is gone, to this page as to every other.
  tell("Picture deleted");
}

async function step(by, from) {
  const gone = from !== undefined;
  const index = gone ? from : indexOf(shown) + by;
  if (!gone && (index < 0 || indexOf(shown) < 0)) return;
  if (index >= shots.length && next) await loadMore();
  const shot = shots[gone ? Math.min(index, shots.length - 1) : index];
  if (shown && shot) openViewer(shot);
  else if (gone) $("viewer").close();
}

function focusNear(index) {
  const item = $("shots").children[Math.min(index, shots.length - 1)];
  (item ? item.querySelector("button") : $("capture-all")).focus();
}
