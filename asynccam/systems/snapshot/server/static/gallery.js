// The pictures there are, newest first, and the dialog that shows one of them whole.

import { $, ask, bytes, count, icon, make, moment, place, sure, tell, unseen, wholeMoment } from "./dom.js";

const PAGE = 24;

let shots = [];
let next = null;
let total = 0;
let camera = "";
let asked = 0;
let shown = null;

/** Fetch the newest pictures anew. */
export async function loadGallery() {
  const mine = ++asked;
  const page = await fetchPage(null);
  if (mine !== asked || !page) return;
  shots = page.items;
  next = page.next;
  total = page.total;
  $("shots").replaceChildren(...shots.map((shot) => tile(shot)));
  tellCount();
}

/** A picture was taken. */
export function addShot(shot) {
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

/** A picture is gone; its size, as far as it is known. */
export function removeShot(filename) {
  const index = shots.findIndex((one) => one.filename === filename);
  if (index < 0) return 0;
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
  const options = ["", ...names].map((name) => make("option", { value: name }, name || "All cameras"));
  pick.replaceChildren(...options);
  pick.value = names.includes(camera) ? camera : "";
  if (pick.value !== camera) {
    camera = "";
    loadGallery();
  }
}

export function setUpGallery() {
  $("gallery-camera").addEventListener("change", (event) => {
    camera = event.target.value;
    loadGallery();
  });
  $("more").addEventListener("click", loadMore);
  $("viewer-close").addEventListener("click", () => $("viewer").close());
  $("viewer-newer").addEventListener("click", () => step(-1));
  $("viewer-older").addEventListener("click", () => step(1));
  $("viewer-delete").addEventListener("click", () => shown && remove(shown));
  $("viewer").addEventListener("close", () => { shown = null; });
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
  shown = shot;
  $("viewer-title").textContent = shot.camera || shot.filename;
  $("viewer-sub").textContent = `${wholeMoment(shot.taken_at)} · ${bytes(shot.size)}${orientation(shot.imu)}`;
  $("viewer-picture").src = place(shot.image_url_path);
  $("viewer-picture").alt = title(shot);
  $("viewer-download").href = place(shot.download_url_path);
  const index = shots.findIndex((one) => one.filename === shot.filename);
  $("viewer-newer").disabled = index <= 0;
  $("viewer-older").disabled = index < 0 || (index === shots.length - 1 && !next);
  if (!$("viewer").open) $("viewer").showModal();
}

// -- within ---------------------------------------------------------------------------------------

const title = (shot) => `${shot.camera || shot.filename}, ${wholeMoment(shot.taken_at)}`;

function orientation(imu) {
  if (!imu) return "";
  const degrees = (value) => `${value.toFixed(1)}°`;
  return ` · roll ${degrees(imu.roll)}, pitch ${degrees(imu.pitch)}, yaw ${degrees(imu.yaw)}`;
}

function tile(shot) {
  const picture = make("button", { class: "picture", type: "button", onclick: () => openViewer(shot) },
    make("img", { src: place(shot.thumbnail_url_path), alt: title(shot), loading: "lazy", decoding: "async" }));
  const download = make("a", { class: "button icon quiet", href: place(shot.download_url_path), download: shot.filename },
    icon("download"), unseen(`Download ${title(shot)}`));
  const bin = make("button", { class: "button icon quiet", type: "button", onclick: () => remove(shot) },
    icon("bin"), unseen(`Delete ${title(shot)}`));
  const words = make("div", {}, make("p", { class: "name" }, shot.camera || shot.filename),
    make("p", { class: "sub" }, moment(shot.taken_at)));
  return make("li", { class: "shot", "data-filename": shot.filename }, picture,
    make("div", { class: "shot-bar" }, words, download, bin));
}

function tellCount() {
  $("gallery-sub").textContent = total ? count(total, "picture", "pictures") : "";
  $("no-shots").hidden = shots.length > 0;
  $("more").hidden = next === null;
}

async function fetchPage(after) {
  const query = new URLSearchParams({ limit: String(PAGE) });
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
  const mine = asked;
  const page = next && await fetchPage(next);
  if (!page || mine !== asked) return;
  const known = new Set(shots.map((one) => one.filename));
  const fresh = page.items.filter((one) => !known.has(one.filename));
  const first = shots.length;
  shots.push(...fresh);
  next = page.next;
  $("shots").append(...fresh.map((shot) => tile(shot)));
  tellCount();
  if (fresh.length && document.activeElement === document.body) $("shots").children[first].querySelector("button").focus();
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
  let index = from === undefined ? shots.findIndex((one) => one.filename === shown.filename) + by : from;
  if (index >= shots.length && next) await loadMore();
  index = Math.min(index, shots.length - 1);
  if (index < 0) $("viewer").close();
  else openViewer(shots[index]);
}

function focusNear(index) {
  const item = $("shots").children[Math.min(index, shots.length - 1)];
  (item ? item.querySelector("button") : $("capture-all")).focus();
}
