// Settings: the list of configured cameras, the form of one, and what the server says of itself.

import { $, ask, bytes, icon, make, named, sure, tell, unseen } from "./dom.js";
import { CheckedForm } from "./form.js";

const TEXTS = ["name", "device_path", "type", "service_name", "width", "height", "pixel_format"];
const OFFSETS = ["roll_offset", "pitch_offset", "yaw_offset"];

let editing = null;
let form = null;

export function setUpSettings() {
  form = new CheckedForm($("camera-form"), $("form-problems"), { check, send, done: () => { fill(null); $("f-name").focus(); }, changed: showService });
  form.form.addEventListener("focusout", (event) => {
    if (event.target.name && event.target.value) form.touched.add(event.target.name);
  });
  $("form-cancel").addEventListener("click", () => { fill(null); $("f-name").focus(); });
  showService();
}

/** List these cameras. */
export function showEntries(cameras) {
  const held = document.activeElement && document.activeElement.dataset.entry;
  $("entries").replaceChildren(...cameras.map(entry));
  $("no-entries").hidden = cameras.length > 0;
  if (editing !== null && !cameras.some((one) => one.name === editing)) fill(null);
  if (held) {
    const again = [...$("entries").querySelectorAll("button")].find((one) => one.dataset.entry === held);
    (again || $("f-name")).focus();
  }
}

/** Say what the server is and keeps. */
export function showAbout(state) {
  const rows = [["Version", `asynccam ${state.version}`],
    ["Pictures", `${state.store.pictures}, ${bytes(state.store.bytes)}`],
    ["Kept", kept(state.store)]];
  if (state.imu && state.imu.enabled) {
    rows.push(["IMU", `MQTT ${state.imu.broker}:${state.imu.port}, topic ${state.imu.topic}`]);
    rows.push(["Broker", state.imu.connected ? "connected" : state.imu.error || "not connected"]);
  } else {
    rows.push(["IMU", "switched off"]);
  }
  if (state.stopped_services.length) rows.push(["Stopped now", state.stopped_services.join(", ")]);
  $("about").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// -- within ---------------------------------------------------------------------------------------

function kept(store) {
  const limits = [];
  if (store.max_age_days !== null) limits.push(`for ${store.max_age_days} days`);
  if (store.max_size_mb !== null) limits.push(`up to ${store.max_size_mb} MB`);
  return limits.join(", ") || "for ever";
}

function entry(camera) {
  const words = `${camera.device_path} · ${camera.width} × ${camera.height} · ${camera.pixel_format}${camera.stereo ? " · stereo" : ""}`;
  const edit = make("button", { class: "button", type: "button", "data-entry": `edit ${camera.name}`, onclick: () => begin(camera) },
    icon("pencil"), "Edit", unseen(` ${camera.name}`));
  const bin = make("button", { class: "button danger", type: "button", "data-entry": `delete ${camera.name}`, onclick: () => remove(camera) },
    icon("bin"), "Delete", unseen(` ${camera.name}`));
  return make("li", {}, make("div", {}, make("p", { class: "name", dir: "auto" }, camera.name), make("p", { class: "sub" }, words)),
    make("div", { class: "actions" }, edit, bin));
}

function begin(camera) {
  fill(camera);
  $("f-name").focus();
  $("form-title").scrollIntoView({ block: "nearest" });
}

function fill(camera) {
  editing = camera ? camera.name : null;
  const { elements } = form.form;
  form.form.reset();
  form.reset();
  if (camera) {
    for (const name of TEXTS) elements[name].value = camera[name] ?? "";
    for (const name of OFFSETS) elements[name].value = camera[name] ?? "";
    elements.stereo.checked = camera.stereo;
  } else {
    const blank = { name: "", device_path: "", type: "v4l2", service_name: "", width: "640", height: "480", pixel_format: "MJPG" };
    for (const name of TEXTS) elements[name].value = blank[name];
    for (const name of OFFSETS) elements[name].value = "";
    elements.stereo.checked = false;
  }
  $("form-title").textContent = camera ? `Edit ${camera.name}` : "Add a camera";
  $("form-save").textContent = camera ? "Save changes" : "Add camera";
  $("form-cancel").hidden = !camera;
  showService();
}

function fields() {
  const { elements } = form.form;
  const found = Object.fromEntries([...TEXTS, ...OFFSETS].map((name) => [name, elements[name].value.trim()]));
  found.stereo = elements.stereo.checked;
  return found;
}

function showService() {
  const needed = form.form.elements.type.value === "stream_interrupt";
  document.querySelector('[data-field="service_name"]').hidden = !needed;
}

function check() {
  const query = editing === null ? "" : `?instead_of=${encodeURIComponent(editing)}`;
  return ask("POST", `api/v1/camera-check${query}`, fields());
}

async function send() {
  const values = fields();
  if (editing === null) await ask("POST", "api/v1/cameras", values);
  else await ask("PATCH", `api/v1/cameras/${encodeURIComponent(editing)}`, forChange(values));
  tell(`${named(values.name)} was ${editing === null ? "added" : "saved"}`);
}

/** An offset that was emptied is taken back, not left as it was. */
function forChange(values) {
  const changed = { ...values };
  for (const name of OFFSETS) if (changed[name] === "") changed[name] = null;
  return changed;
}

async function remove(camera) {
  if (!await sure(`Delete ${named(camera.name)}?`, "Its settings go; the pictures it took stay.")) return;
  try {
    await ask("DELETE", `api/v1/cameras/${encodeURIComponent(camera.name)}`);
    tell(`${named(camera.name)} was deleted`);
  } catch (error) {
    tell(error.message, true);
  }
}
