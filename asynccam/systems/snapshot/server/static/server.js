// The server's own settings: how long pictures stay, the IMU, and how much is done at once.

import { $, ask, bytes, sure, tell } from "./dom.js";
import { CheckedForm } from "./form.js";

let form = null;
let state = null;

export function setUpServer() {
  form = new CheckedForm($("server-form"), $("server-problems"), { check, send, done, changed });
  $("server-cancel").addEventListener("click", () => { done(); form.fields[0].focus(); });
}

/** Show what is in force, but for what is being filled in. */
export function showServer(fresh) {
  state = fresh;
  for (const field of form.fields) {
    if (field.name === "imu.broker" || field.name === "imu.port") field.readOnly = fresh.settings.imu.password;
    if (form.touched.has(field.name)) continue;
    const value = valueOf(field.name);
    if (field.type === "checkbox") field.checked = value;
    else field.value = value ?? "";
  }
}

// -- within ---------------------------------------------------------------------------------------

function valueOf(name) {
  const [group, key] = name.split(".");
  return state.settings[group][key];
}

function changed() {
  $("server-cancel").hidden = form.touched.size === 0;
}

function done() {
  form.reset();
  if (state) showServer(state);
}

/** Only what was filled in, so that two people who change different things do not undo each other's. */
function changes() {
  const found = {};
  for (const field of form.fields.filter((one) => form.touched.has(one.name))) {
    const [group, key] = field.name.split(".");
    found[group] = found[group] || {};
    found[group][key] = field.type === "checkbox" ? field.checked : field.value.trim();
  }
  return found;
}

const check = () => ask("POST", "api/v1/settings-check", changes());

async function send() {
  const wanted = changes();
  const { problems } = await check();
  if (problems.length === 0 && !await agreed(wanted.retention || {})) return false;
  state.settings = await ask("PATCH", "api/v1/settings", wanted);
  tell("Settings saved");
  return true;
}

/** A new limit may cost pictures at once: that is asked first. */
async function agreed(limits) {
  const tighter = (name) => {
    const now = state.settings.retention[name];
    return Boolean(limits[name]) && (now === null || Number(limits[name]) < now);
  };
  const words = [];
  if (state.store.pictures && tighter("max_age_days")) words.push(`Pictures older than ${limits.max_age_days} days are deleted for good.`);
  const over = state.store.bytes - Number(limits.max_size_mb) * 1e6;
  if (tighter("max_size_mb") && over > 0) words.push(`The oldest ${bytes(over)} of pictures are deleted for good.`);
  return words.length === 0 || sure("Save, and delete pictures?", words.join(" "), "Save and delete");
}
