// Keeps the newest text in view, unless the person scrolled up.

import { $ } from "../shared/dom.js";

const NEAR = 60; // pixels from the end that count as the end
let following = true;
let lastTop = 0;

const distance = () => document.documentElement.scrollHeight - innerHeight - scrollY;

export function bindFollowing() {
  addEventListener("scroll", () => {
    // Only the person scrolls up; the end also moves away when text is added.
    if (scrollY < lastTop - 1) following = distance() < NEAR;
    else if (distance() < NEAR) following = true;
    lastTop = scrollY;
    showButton();
  }, { passive: true });
  $("#jump").addEventListener("click", () => {
    follow();
    $("#prompt").focus({ preventScroll: true });
  });
}

/** Goes to the end and stays there. */
export function follow() {
  following = true;
  keepUp();
}

/** Called after the page has grown. */
export function keepUp() {
  if (following) {
    scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    lastTop = scrollY;
  }
  showButton();
}

function showButton() {
  $("#jump").hidden = following || distance() < NEAR;
}
