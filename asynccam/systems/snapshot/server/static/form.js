// A form that the server checks as it is filled in.

import { $, make, sentence } from "./dom.js";

const PAUSE = 250;

/** Where what is said of a field stands; `imu.port` is a field of a group. */
const key = (name) => name.replace(".", "-");

export class CheckedForm {
  /**
   * Give `form` its checks: `check` and `send` ask the server and resolve, or reject, with its problems; `done`
   * is told when all was saved.
   */
  constructor(form, summary, { check, send, done, changed = () => {} }) {
    Object.assign(this, { form, summary, check, send, done, changed, touched: new Set(), timer: 0, asked: 0 });
    form.addEventListener("submit", (event) => this.save(event));
    form.addEventListener("input", (event) => {
      this.touched.add(event.target.name);
      this.changed();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.look(), PAUSE);
    });
  }

  /** Its fields, those with a name. */
  get fields() {
    return [...this.form.elements].filter((one) => one.name);
  }

  /** Begin anew: nothing was filled in, nothing is wrong. */
  reset() {
    this.touched.clear();
    clearTimeout(this.timer);
    this.asked += 1;
    this.summary.replaceChildren();
    this.show([]);
    this.changed();
  }

  async look() {
    const mine = ++this.asked;
    try {
      const { problems } = await this.check();
      // Only fields that were filled in: an empty form is not full of faults.
      if (mine === this.asked) this.show(problems.filter((one) => this.touched.has(one.field)));
    } catch { /* Saving will tell. */ }
  }

  show(problems) {
    const wrong = new Map(problems.map((one) => [one.field, sentence(one.message)]));
    for (const input of this.fields) {
      const words = wrong.get(input.name) || "";
      if (words) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      const said = $(`e-${key(input.name)}`);
      if (said && said.textContent !== words) said.textContent = words;
    }
  }

  async save(event) {
    event.preventDefault();
    const button = this.form.querySelector("[type=submit]");
    if (button.getAttribute("aria-disabled")) return;
    clearTimeout(this.timer);
    const mine = ++this.asked;
    button.setAttribute("aria-disabled", "true");
    this.summary.replaceChildren();
    try {
      if (await this.send() === false) return;
      this.done();
    } catch (error) {
      if (mine !== this.asked) return;
      const known = (error.problems || []).filter((one) => $(`e-${key(one.field)}`));
      this.show(known);
      for (const one of known) this.touched.add(one.field);
      if (known.length) $(`f-${key(known[0].field)}`).focus();
      else this.summary.replaceChildren(make("p", {}, sentence(error.message)));
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }
}
