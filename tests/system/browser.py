#!/usr/bin/env python3
"""The status page in a headless Chromium, over its debugging pipe.

Usage: browser.py PICTURES AXE busy=ADDRESS down=ADDRESS new=ADDRESS. Prints "ok NAME" or "not ok NAME: why"; writes
screenshots into PICTURES. AXE is axe-core's script.
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from urllib.parse import urldefrag, urljoin, urlsplit


PASSWORD = "open sesame"
ADMIN = "Basic " + base64.b64encode(f"ana:{PASSWORD}".encode()).decode()


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
        self.call("Network.setExtraHTTPHeaders", headers={"Authorization": ADMIN})

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

    def wait_for(self, what, expression):
        """Until an expression of the page's is true; its own clock, at most ten seconds of it."""
        poll = f"new Promise((done) => {{ let left = 200; const look = () => {{ if ({expression}) done(true); else if (left-- > 0) setTimeout(look, 50); else done(false); }}; look(); }})"
        return [] if self.evaluate(poll) else [f"it never came to this: {what}"]

    def submit(self, expression):
        """Does something that leads to another page, and waits for that."""
        self.events.clear()
        self.call("Runtime.evaluate", expression=expression)
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


# What axe-core finds serious or worse, in a line each.
SERIOUS = """axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => one.id + ": " + one.nodes.slice(0, 2).map((node) => node.target.join(" ") + " " + (node.any[0] || {}).message).join(", ")))"""
# A link whose words are a number says how many there are where it leads.
NUMBERS = """[...document.querySelectorAll("main a")].filter((link) => /^[0-9\u202f]+$/.test(link.textContent))
  .map((link) => [Number(link.textContent.replace(/\u202f/g, "")), link.getAttribute("href")])"""


def main():
    pictures, axe = sys.argv[1], sys.argv[2]
    origins = {name: f"http://{address}" for name, address in (word.split("=") for word in sys.argv[3:])}
    os.makedirs(pictures, exist_ok=True)
    if not os.path.exists(axe):
        print("not ok axe-core: npm could not install it", flush=True)
        return
    with open(axe) as file:
        script = file.read()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            links = looks(browser, origins, pictures, script)
            lead_somewhere(links, origins)
            numbers(browser, origins)
            without_script(browser, origins)
            edits(browser, origins, pictures)
            acts(browser, origins, pictures)
            # Last, because the clock stays strange.
            renews(browser, origins)
        finally:
            browser.process.kill()
            browser.process.wait()


def ask(url, data=None, admin=False, headers=()):
    """Status and text."""
    request = urllib.request.Request(url, data=data.encode() if data is not None else None, headers=dict(headers))
    if admin:
        request.add_header("Authorization", ADMIN)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ids(origin, query):
    return [int(number) for number in re.findall(r'<tr><td class=n><a href="/envelope/(\d+)"', ask(f"{origin}/list?{query}")[1])]


def looks(browser, origins, pictures, axe):
    busy, down, new = origins["busy"], origins["down"], origins["new"]
    dead = ids(busy, "state=dead&source=shop")[0]
    pages = {
        "overview": busy + "/", "overview-month": busy + "/?span=30d", "list": busy + "/list?state=dead,held",
        "envelope": f"{busy}/envelope/{dead}", "envelope-shown": f"{busy}/envelope/{dead}?show=1", "refused": busy + "/refused", "passed": busy + "/passed",
        "confirm": busy + "/act?do=release&state=held&source=later", "confirm-none": busy + "/act?do=hold&state=held", "confirm-drop": busy + "/act?do=drop&state=dead", "pause": busy + "/act?do=pause&what=intake",
        "preview": busy + "/preview/chat", "preview-dead": f"{busy}/preview/shop?pick=e{dead}", "preview-empty": busy + "/preview/silent",
        "down": down + "/", "down-envelope": down + "/envelope/1", "down-preview": down + "/preview/chat",
        "new": new + "/", "new-list": new + "/list", "new-refused": new + "/refused", "nothing": new + "/nowhere",
    }
    links = set()
    for width, height in ((1280, 900), (390, 844)):
        for dark in (False, True):
            browser.look(width, height, dark, script=True)
            complaints, seen = [], 0
            for name, url in pages.items():
                browser.open(url)
                # A page that is not there is told in the console; that is what was asked for.
                found = [one for one in browser.complaints(urljoin(url, "/")[:-1]) if not (name == "nothing" and "404" in one)]
                browser.evaluate(axe + ";0")
                found += browser.evaluate(SERIOUS) or []
                overhang = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if overhang:
                    found.append(f"{overhang} pixels too wide")
                browser.picture(os.path.join(pictures, f"{name}-{width}-{'dark' if dark else 'light'}.png"))
                complaints += [f"{name}: {one}" for one in found]
                links.update(urldefrag(link)[0] for link in browser.evaluate("[...document.querySelectorAll('a')].map((link) => link.href)") or [])
                seen += 1
            say(f"{seen} pages at {width}, {'dark' if dark else 'light'}", complaints)
    return links


def lead_somewhere(links, origins):
    ours = sorted(link for link in links if any(link.startswith(origin + "/") for origin in origins.values()))
    wrong = [f"{status} {link}" for link in ours for status, _ in [ask(link, admin=True)] if status != 200]
    say(f"{len(ours)} links lead somewhere", wrong)


def numbers(browser, origins):
    """Every number leads to a list with as many rows."""
    browser.look(1280, 900, False, script=True)
    wrong, seen = [], 0
    for name, path in (("busy", "/"), ("down", "/")):
        browser.open(origins[name] + path)
        for count, href in browser.evaluate(NUMBERS):
            text = ask(urljoin(origins[name], href))[1]
            if href.startswith("/refused"):
                rows = sum(int(number) for number in re.findall(r"<h2>[^<]* \((\d+) since", text))
            elif href.startswith(("/list", "/passed")):
                rows = text.count("<tr><td")
            else:
                continue
            seen += 1
            # A list of envelopes for a number of attempts has fewer.
            if rows != count and not ("match=" in href and 0 < rows <= count):
                wrong.append(f"{name} {href}: says {count}, lists {rows}")
    say(f"{seen} numbers are as long as their lists", wrong if seen > 20 else wrong + ["too few were found"])


def without_script(browser, origins):
    has = lambda selector: browser.call("DOM.querySelector", nodeId=browser.call("DOM.getDocument", depth=0)["root"]["nodeId"], selector=selector)["nodeId"] != 0
    for width in (1280, 390):
        browser.look(width, 844, False, script=False)
        browser.open(origins["busy"] + "/")
        missing = [selector for selector in ("main .answers", ".road a", "#waiting svg", "#oldest svg", "#in-and-out svg", "#ages svg", "#calls svg", "#sources .strip",
                                             "#dead form button", "noscript meta, meta[http-equiv]") if not has(selector)]
        say(f"without JavaScript all is there at {width}", browser.complaints(origins["busy"]) + missing)
    browser.open(origins["busy"] + "/preview/chat")
    missing = [selector for selector in ("form[method=post] textarea[name=text]", ".mapping button", "#made article h3") if not has(selector)]
    say("without JavaScript a mapping is shown at work", missing)
    # What its button sends.
    page = ask(origins["busy"] + "/preview/chat", admin=True)[1]
    token = re.search(r'name=token value="([0-9a-f]+)"', page)[1]
    fields = {"token": token, "pick": re.search(r'name=pick value="(\w+)"', page)[1], "shows": "1",
              "text": "[source.chat]\npreset = \"generic@1\"\nsecret = \"s\"\n[source.chat.ticket]\nsubject = \"Ahora: {{ event.text }}\"\n"}
    post = lambda fields, **more: ask(origins["busy"] + "/preview/chat", urllib.parse.urlencode(fields), **more)
    status, answer = post(fields, admin=True)
    wrong = [] if status == 200 and "<h3>Ahora: " in answer and "To keep it" in answer else [f"{status}"]
    wrong += [f"{what} is let in" for what, status in (("no password", post(fields)[0]), ("no token", post({**fields, "token": ""}, admin=True)[0]),
              ("another page", post(fields, admin=True, headers={"Origin": "http://evil.example"})[0])) if status not in (401, 403)]
    status, answer = post({**fields, "text": "[source.chat]\npreset = \"generic@1\"\n[source.chat.ticket]\nsubjekt = \"x\"\n"}, admin=True)
    expected = ["mapping:4:1", "^^^^^^^ unknown key in [source.chat.ticket], did you mean subject?", "= allowed: "]
    wrong += [f"{part} is not told" for part in expected if part not in answer]
    say("without JavaScript a mapping is rendered by its button, and its mistakes are told", wrong)


def edits(browser, origins, pictures):
    browser.look(1280, 900, False, script=True)
    browser.open(origins["busy"] + "/preview/chat")
    edit = "(() => { const text = document.querySelector('#text'); text.value = text.value.replace(%s, %s); text.dispatchEvent(new Event('input', { bubbles: true })); })()"
    browser.evaluate("document.querySelector('[name=shows]').click()")
    wrong = browser.wait_for("customer text is shown", "/Siguen/.test(document.querySelector('#made').textContent)")
    browser.evaluate(edit % ("'Web: '", "'Neu: '"))
    wrong += browser.wait_for("the new subject", "/^Neu: /.test((document.querySelector('#made h3') || {}).textContent)")
    wrong += browser.wait_for("what to paste", "/Neu: /.test(document.querySelector('#paste pre').textContent)")
    paste = browser.evaluate("document.querySelector('#paste pre').textContent")
    for width, dark in ((1280, False), (1280, True), (390, False)):
        browser.look(width, 900, dark, script=True)
        browser.picture(os.path.join(pictures, f"preview-edited-{width}-{'dark' if dark else 'light'}.png"))
    browser.look(1280, 900, False, script=True)
    browser.evaluate(edit % ("'truncate'", "'trunkate'"))
    wrong += browser.wait_for("the mistake", "/\\^/.test((document.querySelector('#mistakes .mistakes') || {}).textContent)")
    browser.picture(os.path.join(pictures, "preview-mistake-1280-light.png"))
    browser.look(390, 844, True, script=True)
    browser.picture(os.path.join(pictures, "preview-mistake-390-dark.png"))
    say("with JavaScript a mapping is rendered while it is edited", wrong + browser.complaints(origins["busy"]))
    with open(os.path.join(pictures, "paste.toml"), "w") as file:
        file.write(paste or "")


def renews(browser, origins):
    browser.look(1280, 900, False, script=True)
    browser.open(origins["busy"] + "/")
    before = browser.evaluate("window.first = document.querySelector('main'); true")
    # The script waits ten seconds of its own time; a virtual clock spares us the wait.
    browser.call("Emulation.setVirtualTimePolicy", policy="pauseIfNetworkFetchesPending", budget=15000)
    while not any(event.get("method") == "Emulation.virtualTimeBudgetExpired" for event in browser.events):
        browser.events.append(browser.message())
    browser.call("Emulation.setVirtualTimePolicy", policy="advance")
    renewed = browser.evaluate("window.first !== document.querySelector('main') && !document.body.classList.contains('stale')")
    say("with JavaScript it renews itself in place", [] if before and renewed else ["it is the old one"])


def acts(browser, origins, pictures):
    busy = origins["busy"]
    dead = ids(busy, "state=dead&source=shop")
    browser.look(390, 844, False, script=True)
    state = lambda: browser.evaluate("document.querySelector('h1 .pill').textContent")
    token = re.search(r'name=token value="([0-9a-f]+)"', ask(f"{busy}/envelope/{dead[0]}")[1])[1]
    form = {"do": "drop", "id": dead[0], "token": token}
    refused = {"no token": ask(busy + "/act", urllib.parse.urlencode({**form, "token": ""}), admin=True)[0],
               "a wrong token": ask(busy + "/act", urllib.parse.urlencode({**form, "token": "0" * 32}), admin=True)[0],
               "no password": ask(busy + "/act", urllib.parse.urlencode(form))[0],
               "another page": ask(busy + "/act", urllib.parse.urlencode(form), admin=True, headers={"Sec-Fetch-Site": "cross-site"})[0],
               "read-only": ask(origins["down"] + "/act", "do=drop&id=1", admin=True)[0]}
    wrong = [f"{what}: {status}" for what, status in refused.items() if status not in (401, 403)]
    say("without token or password nothing is done", wrong if ids(busy, "state=dead&source=shop") == dead else wrong + ["it is gone"])
    browser.open(f"{busy}/envelope/{dead[0]}")
    browser.evaluate("document.querySelector('details.bad').open = true")
    browser.submit("document.querySelector('button[value=drop]').click()")
    say("a button drops", [] if "dropped" in state() else [state()])
    browser.open(busy + "/list?state=held&source=later")
    browser.submit("[...document.querySelectorAll('.verbs a')].find((link) => link.textContent.startsWith('release')).click()")
    browser.submit("document.querySelector('.confirm button').click()")
    browser.picture(os.path.join(pictures, "done-390-light.png"))
    done = browser.evaluate("document.querySelector('main b').textContent")
    say("all that a list shows is released", [] if done == "4" else [f"{done} of 4"])
    browser.open(busy + "/act?do=pause&what=delivery")
    browser.evaluate("document.querySelector('[name=reason]').value = 'migrating'")
    browser.submit("document.querySelector('.confirm button').click()")
    paused = browser.evaluate("document.querySelector('main').textContent")
    browser.picture(os.path.join(pictures, "paused-390-light.png"))
    browser.open(busy + "/act?do=resume&what=delivery")
    browser.submit("document.querySelector('.confirm button').click()")
    resumed = browser.evaluate("document.querySelector('main').textContent")
    wrong = ([] if "delivery by the status page: migrating" in paused else ["it does not say why"]) + (["it is still paused"] if "migrating" in resumed else [])
    say("delivery is paused with a reason, and goes on", wrong)


main()
