// Two maps on each other, the upper one cut at a line. The lower takes all input; the upper follows.

import { $ } from "./panel.js";

export class Swipe {
  constructor(lower, make) {
    this.lower = lower;
    this.make = make;
    this.upper = null;
    this.follow = () => this.upper?.jumpTo({ center: lower.getCenter(), zoom: lower.getZoom() });
    $("place").addEventListener("input", () => this.cut());
  }

  async open() {
    for (const id of ["over", "divider", "handle"]) $(id).hidden = false;
    this.cut();
    if (!this.upper) {
      this.upper = await this.make("over");
      this.lower.on("move", this.follow);
    }
    this.follow();
    return this.upper;
  }

  close() {
    for (const id of ["over", "divider", "handle"]) $(id).hidden = true;
    this.lower.off("move", this.follow);
    this.upper?.remove();
    this.upper = null;
  }

  cut() {
    const place = `${$("place").value}%`;
    $("over").style.clipPath = `inset(0 0 0 ${place})`;
    $("divider").style.left = place;
  }
}
