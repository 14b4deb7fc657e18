// Renews what is on the page every ten seconds, in place: scrolling and a half-typed filter stay. On the preview it
// renders what is edited.
"use strict";
(() => {
  const EVERY_MS = 10000;
  const parse = (text) => new DOMParser().parseFromString(text, "text/html");
  const renew = async () => {
    const main = document.querySelector("main");
    const at = document.activeElement;
    const isBusy = document.hidden || main.contains(at) && at.matches("input,select,button,summary") || main.querySelector("td details[open],dl~* details[open]");
    if (!isBusy) {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        const page = parse(await answer.text());
        const fresh = page.querySelector("main");
        const focused = at && at.getAttribute("href");
        main.replaceWith(document.adoptNode(fresh));
        document.title = page.title;
        const now = page.querySelector("#now");
        if (now) document.querySelector("#now").replaceWith(document.adoptNode(now));
        if (focused) {
          const again = [...fresh.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused);
          if (again) again.focus({ preventScroll: true });
        }
        document.body.classList.remove("stale");
      } catch {
        document.body.classList.add("stale");
      }
    }
    setTimeout(renew, EVERY_MS);
  };
  if (document.body.hasAttribute("data-renews")) setTimeout(renew, EVERY_MS);

  const form = document.querySelector("form[data-live]");
  if (!form) return;
  let isAsking = false, isChanged = false, timer;
  const render = async () => {
    if (isAsking) { isChanged = true; return; }
    isAsking = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (!answer.ok) throw new Error(answer.status);
      const page = parse(await answer.text());
      for (const id of ["event", "paste", "mistakes", "made"]) document.getElementById(id).replaceWith(document.adoptNode(page.getElementById(id)));
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
    isAsking = false;
    if (isChanged) { isChanged = false; render(); }
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(render, 400); });
})();
