"""A stand-in for systemd's socket activation: it listens, passes the socket to one deskspool after the other, and
restarts it under load. Usage: restarts.py DESKSPOOL DIRECTORY RESTARTS. Prints JSON: what clients met."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

deskspool, directory, restarts = sys.argv[1], sys.argv[2], int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
port = listener.getsockname()[1]
met, lock, ending = {"sent": [], "faults": [], "slowest": 0.0}, threading.Lock(), threading.Event()


def start():
    # exec keeps the pid that LISTEN_PID names, and the socket becomes descriptor 3.
    script = 'export LISTEN_PID=$$; exec "$@"'
    argv = ["sh", "-c", script, "sh", deskspool, "--config", f"{directory}/deskspool.toml"]
    argv += ["--socket", f"{directory}/control.sock", "serve"]
    env = dict(os.environ, LISTEN_FDS="1", LISTEN_FDNAMES="deskspool.socket")
    log = open(f"{directory}/log", "ab")
    action = [(os.POSIX_SPAWN_DUP2, listener.fileno(), 3)]
    action += [(os.POSIX_SPAWN_DUP2, log.fileno(), 2), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawnp("sh", argv, env, file_actions=action)
    log.close()
    return pid


def ups():
    with open(f"{directory}/log") as log:
        return log.read().count(" is up pid=")


def wait_until_up(times):
    deadline = time.monotonic() + 60
    while ups() < times:
        if time.monotonic() > deadline:
            sys.exit("the daemon did not come up")
        time.sleep(0.02)


def client(name, keeps):
    number, connection = 0, None
    while not ending.is_set():
        number += 1
        event = f"{name}-{number}"
        body = json.dumps({"event_id": event, "conversation_id": name, "email": "a@example.com", "text": f"[{event}]"})
        began = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {"Authorization": "chat-secret", "Content-Type": "application/json"}
            if not keeps:
                headers["Connection"] = "close"
            connection.request("POST", "/in/chat", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.will_close:
                connection.close()
                connection = None
            fault = None if answer.status == 200 else f"{answer.status}"
        except OSError as error:
            fault, connection = repr(error), None
        except http.client.HTTPException as error:
            fault, connection = repr(error), None
        with lock:
            met["slowest"] = max(met["slowest"], time.monotonic() - began)
            if fault:
                met["faults"].append(f"{event}: {fault}")
            else:
                met["sent"].append(event)


pid = start()
wait_until_up(1)
clients = [threading.Thread(target=client, args=(f"c{n}", n % 2 == 1)) for n in range(16)]
for one in clients:
    one.start()
for restart in range(restarts):
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        met["faults"].append(f"restart {restart}: it ended with {status}")
    # So long is nobody there.
    time.sleep(0.2)
    pid = start()
    wait_until_up(restart + 2)
time.sleep(0.5)
ending.set()
for one in clients:
    one.join()
# The rest is delivered before the end.
asked = [deskspool, "--config", f"{directory}/deskspool.toml", "--socket", f"{directory}/control.sock"]
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    status = json.loads(subprocess.run(asked + ["status", "--json"], capture_output=True, text=True).stdout)
    spool = status["spool"]
    if spool["queued"] + spool["in_flight"] + spool["deferred"] == 0:
        break
    time.sleep(0.2)
met["passed"] = status["intake"]["passed"]
met["screen"] = subprocess.run(asked + ["status"], capture_output=True, text=True).stdout
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
met["port"] = port
json.dump(met, sys.stdout)
