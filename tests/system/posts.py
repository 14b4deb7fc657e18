"""Platforms for the tests in a machine. Run in its network:

posts.py post FILE SECONDS   eight clients post to /in/chat for so long, or until SIGTERM; JSON of what they met goes to FILE
posts.py count FILE…         which of the events in those files are in the stand-in for Freshdesk once, never, twice
"""

import base64
import collections
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.request

SECRET, FRESHDESK, KEY = "chat-secret", "http://127.0.0.1:8090", "sandbox-key"
met, lock, ending = {"sent": [], "faults": [], "slowest": 0.0}, threading.Lock(), threading.Event()


def client(name, keeps):
    number, connection = 0, None
    while not ending.is_set():
        number += 1
        event = f"{name}-{number}"
        body = json.dumps({"event_id": event, "conversation_id": name, "email": f"{name}@example.com", "text": f"[{event}]"})
        began = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", 8085, timeout=120)
            headers = {"Authorization": SECRET, "Content-Type": "application/json"}
            if not keeps:
                headers["Connection"] = "close"
            connection.request("POST", "/in/chat", body, headers)
            answer = connection.getresponse()
            answer.read()
            fault = None if answer.status == 200 else str(answer.status)
            if answer.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            fault, connection = repr(error), None
        with lock:
            met["slowest"] = max(met["slowest"], time.monotonic() - began)
            if fault is None:
                met["sent"].append(event)
            else:
                met["faults"].append(f"{event}: {fault}")
        ending.wait(0.05)


def post(file, seconds):
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    stamp = f"{os.getpid()}x{int(time.time())}"
    clients = [threading.Thread(target=client, args=(f"c{n}x{stamp}", n % 2 == 1)) for n in range(8)]
    for one in clients:
        one.start()
    ending.wait(seconds)
    ending.set()
    for one in clients:
        one.join()
    with open(file, "w") as out:
        json.dump(met, out)


def ask(path):
    key = base64.b64encode(f"{KEY}:X".encode()).decode()
    request = urllib.request.Request(FRESHDESK + path, headers={"Authorization": f"Basic {key}"})
    return json.load(urllib.request.urlopen(request))


def pages(path):
    page = 1
    while found := ask(f"{path}per_page=100&page={page}"):
        yield from found
        page += 1


def count(files):
    sent = [event for file in files for event in json.load(open(file))["sent"]]
    found = collections.Counter()
    for ticket in pages("/api/v2/tickets?"):
        texts = [ask(f"/api/v2/tickets/{ticket['id']}")["description_text"]]
        texts += [note["body_text"] for note in pages(f"/api/v2/tickets/{ticket['id']}/conversations?")]
        found.update(re.findall(r"\[(c\d+x\d+x\d+-\d+)\]", "\n".join(texts)))
    times = collections.Counter(min(found[event], 2) for event in sent)
    print(f"once {times[1]} never {times[0]} twice {times[2]}")


if sys.argv[1] == "post":
    post(sys.argv[2], float(sys.argv[3]))
else:
    count(sys.argv[2:])
