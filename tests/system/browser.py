#!/usr/bin/env python3
"""The status page in a headless Chromium, over its debugging pipe.

Usage: browser.py ADDRESS PICTURES. Prints "ok NAME" or "not ok NAME: why"; writes screenshots into PICTURES.
"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from urllib.parse import urldefrag, urljoin, urlsplit


class Browser:
    """One page of one Chromium."""

    def __init__(self, home):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
                   "--remote-debugging-pipe", f"--user-data-dir={home}", "about:blank"]

        def arrange():
            spare_in, spare_out = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(spare_in, 3)
            os.dup2(spare_out, 4)

        self.process = subprocess.Popen(command, preexec_fn=arrange, close_fds=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.out, self.into = os.fdopen(ours_out, "wb", buffering=0), os.fdopen(ours_in, "rb")
        self.number, self.events, self.rest, self.session = 0, [], b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.rest:
            piece = self.into.read1(1 << 16)
            if not piece:
                raise SystemExit("not ok chromium: it has ended")
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.out.write(json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def look(self, width, height, dark, script):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def picture(self, path):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))

    def complaints(self, origin):
        found = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
            if method == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"]["text"])
            if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(origin + "/"):
                found.append("asks outside: " + parameters["request"]["url"])
        return found


def say(name, complaints):
    if complaints:
        print(f"not ok {name}: {'; '.join(complaints)}", flush=True)
    else:
        print(f"ok {name}", flush=True)


# Every name of a control, every label of a picture, one first heading, a language, contrast of what is muted.
ACCESSIBLE = """(() => {
  const wrong = [];
  const named = (node) => (node.getAttribute("aria-label") || node.textContent || node.title || "").trim();
  document.querySelectorAll("a,button,summary").forEach((node) => { if (!named(node)) wrong.push("nameless " + node.outerHTML.slice(0, 80)); });
  document.querySelectorAll("svg[role=img]").forEach((node) => { if (!node.getAttribute("aria-label")) wrong.push("picture without words"); });
  document.querySelectorAll("input:not([type=hidden]),select").forEach((node) => { if (!node.labels.length) wrong.push("field without label " + node.name); });
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.querySelector("main")) wrong.push("no main");
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => wrong.push("id twice " + id));
  document.querySelectorAll("a[href^='#']").forEach((node) => { if (!ids.includes(node.hash.slice(1))) wrong.push("leads nowhere " + node.hash); });
  const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor; if (c !== "rgba(0, 0, 0, 0)") return c; } return "rgb(255,255,255)"; };
  document.querySelectorAll("p,td,th,span,a,b,h1,h2,li,dt,dd,code,button,label").forEach((node) => {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) return;
    const [one, two] = [light(getComputedStyle(node).color), light(behind(node))];
    const contrast = (Math.max(one, two) + .05) / (Math.min(one, two) + .05);
    if (contrast < 4.5) wrong.push("contrast " + contrast.toFixed(1) + " of " + node.textContent.trim().slice(0, 30));
  });
  return [...new Set(wrong)].slice(0, 8);
})()"""


def main():
    address, pictures = sys.argv[1], sys.argv[2]
    origin = f"http://{address}"
    os.makedirs(pictures, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            visit(browser, origin, pictures)
        finally:
            browser.process.kill()
            browser.process.wait()


def visit(browser, origin, pictures):
    links = set()
    pages = {"overview": "/", "week": "/?span=7d", "dead": "/list?state=dead", "envelope": "/envelope/1", "refused": "/refused"}
    for width, height in ((1280, 900), (390, 844)):
        for dark in (False, True):
            for name, path in pages.items():
                look = f"{name} {width} {'dark' if dark else 'light'}"
                browser.look(width, height, dark, script=True)
                browser.open(origin + path)
                complaints = browser.complaints(origin) + (browser.evaluate(ACCESSIBLE) or [])
                overhang = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if overhang:
                    complaints.append(f"{overhang} pixels too wide")
                browser.picture(os.path.join(pictures, look.replace(" ", "-") + ".png"))
                say(look, complaints)
                found = browser.evaluate("[...document.querySelectorAll('a')].map((link) => link.href)") or []
                links.update(urldefrag(link)[0] for link in found)
    dead = []
    for link in sorted(link for link in links if link.startswith(origin + "/")):
        try:
            with urllib.request.urlopen(link, timeout=20) as answer:
                if answer.status != 200:
                    dead.append(f"{answer.status} {link}")
        except OSError as error:
            dead.append(f"{error} {link}")
    say(f"{len(links)} links lead somewhere", dead)
    browser.look(1280, 900, False, script=False)
    browser.open(origin + "/")
    document = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    has = lambda selector: browser.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"] != 0
    missing = [selector for selector in ("main .answers", "#waiting svg", "#sources", "noscript meta, meta[http-equiv]") if not has(selector)]
    say("without JavaScript all is there", browser.complaints(origin) + missing)
    browser.look(1280, 900, False, script=True)
    browser.open(origin + "/")
    before = browser.evaluate("window.first = document.querySelector('main'); true")
    # The script waits ten seconds of its own time; a virtual clock spares us the wait.
    browser.call("Emulation.setVirtualTimePolicy", policy="pauseIfNetworkFetchesPending", budget=15000)
    while not any(event.get("method") == "Emulation.virtualTimeBudgetExpired" for event in browser.events):
        browser.events.append(browser.message())
    renewed = browser.evaluate("window.first !== document.querySelector('main') && !document.body.classList.contains('stale')")
    say("with JavaScript it renews itself in place", [] if before and renewed else ["it is the old one"])


main()
