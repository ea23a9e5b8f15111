// Live parts, and search as one types. Everything works without it, by links and forms.
"use strict";

// --- Live parts: elements with data-refresh are fetched again every data-every seconds ---

const liveText = document.querySelector("[data-live]");
const pauseButton = document.querySelector("[data-pause]");
let paused = false;

function say(text) {
  if (liveText && liveText.textContent !== text) liveText.textContent = text;
}

async function refresh(part) {
  const response = await fetch(part.dataset.refresh, { credentials: "same-origin" });
  if (response.status === 401) {
    paused = true;
    say("The session has ended");
    return;
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  const html = await response.text();
  // What the reader has focused or opened stays as it is.
  const inUse = part.contains(document.activeElement) || part.querySelector("details[open]");
  if (html !== part.dataset.shown && !inUse) {
    part.innerHTML = html;
    part.dataset.shown = html;
  }
}

function keepFresh(part) {
  const every = Number(part.dataset.every) * 1000;
  const again = async () => {
    if (!paused && !document.hidden) {
      try {
        await refresh(part);
        if (!paused) say("Live");
      } catch {
        say("No connection to the console");
      }
    }
    setTimeout(again, every);
  };
  // The first time soon: what was slow to read may be there now.
  setTimeout(again, Math.min(every, 1000));
}

document.querySelectorAll("[data-refresh]").forEach(keepFresh);

if (pauseButton) {
  pauseButton.hidden = false;
  pauseButton.addEventListener("click", () => {
    paused = !paused;
    pauseButton.textContent = paused ? "Resume updates" : "Pause updates";
    say(paused ? "Paused" : "Live");
  });
}

// --- Search ---

const form = document.querySelector("[data-search]");
if (form) {
  const input = form.querySelector("input");
  const results = form.querySelector("[data-results]");
  const status = form.querySelector("[data-search-status]");
  let waiting = 0;
  let asked = null;

  const close = () => {
    results.hidden = true;
  };

  const ask = async () => {
    if (asked) asked.abort();
    const text = input.value.trim();
    if (!text) {
      close();
      return;
    }
    asked = new AbortController();
    try {
      const address = `${form.dataset.search}?q=${encodeURIComponent(text)}`;
      const response = await fetch(address, { credentials: "same-origin", signal: asked.signal });
      if (!response.ok) return;
      results.innerHTML = await response.text();
      results.hidden = false;
      const counted = results.querySelector("[data-count]");
      status.textContent = counted ? `${counted.dataset.count} found` : "";
    } catch (error) {
      if (error.name !== "AbortError") close();
    }
  };

  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 150);
  });
  input.addEventListener("focus", () => {
    if (input.value.trim() && results.innerHTML) results.hidden = false;
  });
  form.addEventListener("keydown", (event) => {
    const links = [...results.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "Escape") {
      close();
      input.focus();
    } else if (event.key === "ArrowDown" && !results.hidden && links.length) {
      event.preventDefault();
      links[Math.min(at + 1, links.length - 1)].focus();
    } else if (event.key === "ArrowUp" && at >= 0) {
      event.preventDefault();
      (at ? links[at - 1] : input).focus();
    }
  });
  form.addEventListener("focusout", (event) => {
    if (!form.contains(event.relatedTarget)) close();
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      input.focus();
    }
  });
}
