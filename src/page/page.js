// Renews what is on the page every ten seconds, in place: scrolling and a half-typed filter stay.
"use strict";
(() => {
  const EVERY_MS = 10000;
  const renew = async () => {
    const main = document.querySelector("main");
    const isBusy = document.hidden || main.contains(document.activeElement) && document.activeElement.matches("input,select,button");
    if (!isBusy) {
      try {
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.querySelector("main");
        const focused = document.activeElement && document.activeElement.getAttribute("href");
        main.replaceWith(document.adoptNode(fresh));
        document.title = page.title;
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
  setTimeout(renew, EVERY_MS);
})();
