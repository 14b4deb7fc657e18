"""Power cuts of the real binary on a real file system; called by power_cut.sh.

The daemon works on an ext4 whose block device is a file behind qemu-storage-daemon, which writes down every write and
flush in order (blklogwrites, the format of Linux' dm-log-writes). While platforms post, each answer is noted with the
length of that log. Then, for many lengths, the disk is rebuilt as a cut at that moment may leave it: everything up to
the last flush, and of what was written later a random part, one write of it torn. It is mounted, so that ext4's own
journal recovers, the binary is started on it, and what it has is compared with what had been answered by then.

With --liar syncs are skipped by strace and reported as done: a checker that finds nothing then is worth nothing.
"""

import argparse
import http.client
import http.server
import json
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1 << 20
DISK_BYTES = 128 * MIB
SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4
HEADERS = {"Content-Type": "application/json", "Authorization": "chat-secret"}
SYNCS = "fdatasync,fsync,sync_file_range"
CONFIG = """
[freshdesk]
url = "{url}"
api_key = "any"
rate_per_minute = 100000
[server]
listen = "127.0.0.1:0"
[status_page]
listen = []
[spool]
dir = "{spool}"
disk_free_min = "1MiB"
[delivery]
workers = 2
[source.chat]
preset = "generic@1"
secret = "chat-secret"
"""


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def quietly(*command):
    subprocess.run(command, check=False, capture_output=True)


class Loop:
    """A file as a mounted ext4."""

    def __init__(self, file, point):
        self.point = point
        point.mkdir(exist_ok=True)
        self.device = run("losetup", "-f", "--show", str(file))
        try:
            run("mount", "-t", "ext4", self.device, str(point))
        except subprocess.CalledProcessError as error:
            quietly("losetup", "-d", self.device)
            raise RuntimeError("the file system cannot be mounted: " + error.stderr.strip()) from error

    def close(self):
        quietly("umount", "-l", str(self.point))
        quietly("losetup", "-d", self.device)


class Recorded:
    """A block device whose writes are written down."""

    def __init__(self, room):
        self.disk, self.log, self.face = room / "disk.img", room / "log.img", room / "face.img"
        with open(self.disk, "wb") as file:
            file.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", str(self.disk))
        self.first = room / "first.img"
        run("cp", "--sparse=always", str(self.disk), str(self.first))
        for empty in (self.log, self.face):
            empty.touch()
        # What the host's disk does is of no interest, so its syncs are left out.
        node = "driver=file,cache.no-flush=on,locking=off,node-name={},filename={}"
        self.daemon = subprocess.Popen([
            "qemu-storage-daemon",
            "--blockdev", node.format("disk", self.disk),
            "--blockdev", node.format("log", self.log),
            "--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512",
            "--export", f"type=fuse,id=face,node-name=logged,mountpoint={self.face},writable=on",
        ], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until(lambda: self.daemon.poll() is not None or self.face.stat().st_size == DISK_BYTES, "a block device")
        if self.daemon.poll() is not None:
            raise RuntimeError("qemu-storage-daemon: " + self.daemon.stderr.read().strip())

    def position(self):
        return os.stat(self.log).st_size

    def cut(self):
        self.daemon.kill()
        self.daemon.wait()
        quietly("umount", "-l", str(self.face))

    def entries(self):
        """What was written down, in order: the end in the log, the flags, the place, the bytes."""
        entries = []
        with open(self.log, "rb") as log:
            size = os.fstat(log.fileno()).st_size
            at = SECTOR
            while at + SECTOR <= size:
                log.seek(at)
                sector, sectors, flags, length = struct.unpack("<QQQQ", log.read(32))
                if (sector, sectors, flags) == (0, 0, 0) or flags > 31 or sector * SECTOR > DISK_BYTES:
                    break
                bytes_ = 0 if flags & DISCARD else sectors * SECTOR
                end = at + SECTOR + bytes_
                if end > size:
                    break
                entries.append((end, flags, sector * SECTOR, sectors * SECTOR, at + SECTOR))
                at = end
        return entries


def until(is_so, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := is_so()):
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.01)
    return found


class Desk(http.server.BaseHTTPRequestHandler):
    """A Freshdesk that notes which event came when, and when it answered."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        ticket = re.search(r"/tickets/(\d+)", self.path)
        self.answer(200, {"id": int(ticket[1]), "status": 2, "tags": []} if ticket else [])

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8", "replace")
        place = self.server.position()
        events = re.findall(r"event-\d+-\d+", text)
        with self.server.lock:
            for event in events:
                self.server.begun.setdefault(event, place)
            self.server.tickets += 1
            number = self.server.tickets
        time.sleep(0.03)
        with self.server.lock:
            for event in events:
                self.server.ended.setdefault(event, self.server.position())
        self.answer(201, {"id": number})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Daemons are killed while they wait for an answer."""


def desk(position):
    server = Server(("127.0.0.1", 0), Desk)
    server.position, server.lock = position, threading.Lock()
    server.begun, server.ended, server.tickets = {}, {}, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Daemon:
    """`deskspool serve` over a spool."""

    def __init__(self, binary, room, spool, url, liar=False):
        room.mkdir(exist_ok=True)
        self.binary, self.room, self.config = binary, room, room / "deskspool.toml"
        self.config.write_text(CONFIG.format(url=url, spool=spool))
        self.config.chmod(0o600)
        self.log = open(room / "log", "ab+")
        self.log.seek(0, os.SEEK_END)
        begun = self.log.tell()
        command = [binary, "--config", str(self.config), "--socket", str(room / "socket"), "serve"]
        if liar:
            inject = f"inject={SYNCS}:retval=0"
            command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=" + SYNCS, "-e", inject, *command]
        environment = {**os.environ, "RUNTIME_DIRECTORY": str(room)}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log, env=environment)

        def up():
            if self.process.poll() is not None:
                raise RuntimeError("the daemon ended: " + self.said(begun)[-2000:])
            return re.search(r"is up pid=(\d+) listen=([0-9.]+):(\d+)", self.said(begun))
        told = until(up, "the daemon")
        self.pid, self.address = int(told[1]), (told[2], int(told[3]))

    def said(self, since=0):
        with open(self.log.name, "rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def verb(self, *words):
        command = [self.binary, "--config", str(self.config), "--socket", str(self.room / "socket"), *words]
        return subprocess.run(command, capture_output=True, check=False).stdout

    def end(self, signal):
        os.kill(self.pid, signal)
        self.process.wait()
        self.log.close()


def post(connection, event, text):
    body = json.dumps({"event_id": event, "conversation_id": "t-" + event.rsplit("-", 1)[0], "email": "ana@example.com", "text": text})
    connection.request("POST", "/in/chat", body=body, headers=HEADERS)
    response = connection.getresponse()
    response.read()
    return response.status


class Load:
    """Platforms that post, and what was answered when."""

    WRITERS = 6
    BODIES = (300, 300, 300, 2048, 2048, 24 * 1024, 200 * 1024)

    def __init__(self, position, seed):
        self.position, self.seed, self.answered, self.texts = position, seed, {}, {}
        self.next = [0] * self.WRITERS
        self.lock = threading.Lock()

    def write(self, writer, address, stop):
        chance = random.Random(f"{self.seed}.{writer}.{self.next[writer]}")
        connection = http.client.HTTPConnection(*address, timeout=10)
        while not stop.is_set():
            # Five conversations of a writer, so that there is an order to be kept.
            event = f"event-{writer * 5 + self.next[writer] % 5}-{self.next[writer]}"
            text = f"{event}. " + "¿Dónde está mi pedido? " * (chance.choice(self.BODIES) // 23)
            try:
                status = post(connection, event, text)
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                with self.lock:
                    self.answered[event] = self.position()
                    self.texts[event] = text
            # One that nobody answered is never sent again.
            self.next[writer] += 1

    def on(self, daemon, seconds, end):
        """Posts for a while; then `end`, in the middle of it."""
        stop = threading.Event()
        writers = [threading.Thread(target=self.write, args=(one, daemon.address, stop)) for one in range(self.WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(seconds)
        end()
        stop.set()
        for writer in writers:
            writer.join()


class Lived:
    """A recorded life: created, stopped, killed, and cut off in the middle of posts."""

    def __init__(self, binary, room, seed, liar):
        room.mkdir()
        device = Recorded(room)
        freshdesk = desk(device.position)
        url = f"http://127.0.0.1:{freshdesk.server_address[1]}"
        load, ends = Load(device.position, seed), ((15,), (9,), None)
        mounted = daemon = None
        try:
            mounted = Loop(device.face, room / "mounted")
            for end in ends:
                daemon = Daemon(binary, room / "daemon", mounted.point / "lib" / "spool", url, liar)
                load.on(daemon, 2.0, lambda: daemon.end(*end) if end else device.cut())
        finally:
            device.cut()
            freshdesk.shutdown()
            if daemon and daemon.process.poll() is None:
                daemon.end(9)
            if mounted:
                mounted.close()
        self.entries, self.log, self.first = device.entries(), device.log, device.first
        self.answered, self.texts = load.answered, load.texts
        self.begun, self.ended = freshdesk.begun, freshdesk.ended


class States:
    """Disks as cuts may leave them, one after the other."""

    def __init__(self, lived, room, seed, count):
        self.lived, self.chance = lived, random.Random(f"{seed}.cuts")
        self.synced, self.flushed = room / "synced.img", 0
        run("cp", "--sparse=always", str(lived.first), str(self.synced))
        ends = [entry[0] for entry in lived.entries]
        first_answer = min(lived.answered.values())
        # Half of them at the moment of an answer, where a lie shows; a few before there was any.
        moments = [answer for answer in lived.answered.values() if answer <= ends[-1]]
        anywhere = [end for end in ends if end >= first_answer]
        early = [end for end in ends if end < first_answer]
        cuts = [self.chance.choice(moments) for _ in range(count // 2)]
        cuts += [self.chance.choice(early) for _ in range(count // 20)]
        cuts += [self.chance.choice(anywhere) for _ in range(count - len(cuts))]
        self.cuts = sorted(cuts)

    def apply(self, log, disk, entry, torn=False):
        _, flags, place, length, at = entry
        if torn:
            length = self.chance.randrange(length // SECTOR) * SECTOR
        if length and flags & DISCARD:
            disk.seek(place)
            disk.write(bytes(length))
        elif length:
            log.seek(at)
            disk.seek(place)
            disk.write(log.read(length))

    def build(self, cut, file):
        entries = self.lived.entries
        seen = [index for index, entry in enumerate(entries) if entry[0] <= cut]
        flushes = [index for index in seen if entries[index][1] & FLUSH]
        durable = flushes[-1] + 1 if flushes else 0
        with open(self.lived.log, "rb") as log:
            with open(self.synced, "r+b") as disk:
                for entry in entries[self.flushed:durable]:
                    self.apply(log, disk, entry)
            self.flushed = max(self.flushed, durable)
            run("cp", "--sparse=always", str(self.synced), str(file))
            loose = entries[durable:len(seen)]
            kept = self.chance.choice((0.0, 0.5, 0.5, 0.9, 1.0))
            torn = self.chance.randrange(len(loose)) if loose else None
            with open(file, "r+b") as disk:
                for index, entry in enumerate(loose):
                    if entry[1] & FUA or self.chance.random() < kept:
                        self.apply(log, disk, entry, torn=index == torn and not entry[1] & FUA)


class Check:
    """What the binary makes of one state."""

    def __init__(self, binary, lived):
        self.binary, self.lived = binary, lived

    def of(self, file, room, cut, chance):
        room.mkdir(exist_ok=True)
        wrong, daemon = [], None
        mounted = Loop(file, room / "mounted")
        try:
            spool = mounted.point / "lib" / "spool"
            spool.mkdir(parents=True, exist_ok=True)
            # Delivery is paused, so that what is found stays as it is.
            (spool / "pauses.json").write_text('{"pauses":{"delivery":{"reason":"","since":0,"until":null}},"holds":[]}')
            daemon = Daemon(self.binary, room, spool, "http://127.0.0.1:9")
            wrong = self.judge(daemon, cut, chance)
            rebuilt = any(spool.glob("queue.damaged.*"))
        except Exception as error:  # noqa: BLE001: whatever it is, the state is bad
            wrong, rebuilt = [str(error)], False
        finally:
            if daemon:
                daemon.end(9)
            (room / "log").unlink(missing_ok=True)
            mounted.close()
            file.unlink()
        return wrong, rebuilt

    def judge(self, daemon, cut, chance):
        lived, wrong = self.lived, []
        by_then = lambda moments: {event for event, moment in moments.items() if moment <= cut}
        answered, begun, ended = map(by_then, (lived.answered, lived.begun, lived.ended))
        if answered:
            # The platform sends one of them again: it must be known.
            again = chance.choice(sorted(answered))
            connection = http.client.HTTPConnection(*daemon.address, timeout=10)
            status = post(connection, again, lived.texts[again])
            connection.close()
            if status != 200:
                wrong.append(f"{again} sent again gets {status}")
        lines = daemon.verb("--json", "queue").splitlines()
        rows = [json.loads(line) for line in lines]
        waiting = {row["event"]: row for row in rows}
        if len(waiting) != len(rows):
            wrong.append("an event waits twice")
        wrong += [f"{event} had its 200 and is gone" for event in sorted(answered - ended - set(waiting))]
        for event, row in waiting.items():
            if row["state"] not in ("queued", "deferred"):
                wrong.append(f"{event} is {row['state']}: {row['last_error']}")
            if event in begun and row["attempts"] == 0:
                wrong.append(f"{event} was sent to Freshdesk, and nobody knows")
        thread, last = lambda event: event.rsplit("-", 1)[0], {}
        for row in sorted(rows, key=lambda row: row["id"]):
            number = int(row["event"].rsplit("-", 1)[1])
            if number <= last.get(thread(row["event"]), -1):
                wrong.append(f"{row['event']} is out of order")
            last[thread(row["event"])] = number
        whole = sorted(answered & set(waiting))
        if whole:
            event = chance.choice(whole)
            body = daemon.verb("show", str(waiting[event]["id"]), "--body")
            if json.loads(body)["text"] != lived.texts[event]:
                wrong.append(f"the text of {event} is another one")
        for told in ("journal damaged", "envelope dead", "bug:"):
            if told in daemon.said():
                wrong.append(f"the log says {told!r}")
        return wrong


def try_states(binary, room, seed, count, liar):
    room.mkdir()
    lived = Lived(binary, room / "life", seed, liar)
    states, check = States(lived, room, seed, count), Check(binary, lived)
    bad, rebuilt, by_then = [], 0, 0
    workers = 2
    with ThreadPoolExecutor(workers) as pool:
        running = []

        def finish():
            nonlocal rebuilt
            cut, future = running.pop(0)
            wrong, was_rebuilt = future.result()
            rebuilt += was_rebuilt
            if wrong:
                bad.append((cut, wrong))
        for number, cut in enumerate(states.cuts):
            if len(running) == workers:
                finish()
            file = room / f"state{number % (workers + 1)}.img"
            states.build(cut, file)
            chance = random.Random(f"{seed}.{number}")
            running.append((cut, pool.submit(check.of, file, room / f"check{number % (workers + 1)}", cut, chance)))
            by_then += sum(1 for moment in lived.answered.values() if moment <= cut)
        while running:
            finish()
    print(f"seed {seed}: {len(states.cuts)} states of {len(lived.entries)} writes and flushes, {len(lived.answered)} answers, "
          f"{len(lived.ended)} deliveries; {by_then} answers compared, {rebuilt} queues rebuilt", flush=True)
    return bad, len(states.cuts)


def main():
    asks = argparse.ArgumentParser()
    asks.add_argument("binary")
    asks.add_argument("room", type=Path)
    asks.add_argument("--seed", type=int)
    asks.add_argument("--states", type=int, required=True)
    asks.add_argument("--liar", action="store_true")
    told = asks.parse_args()
    seed = told.seed if told.seed is not None else random.SystemRandom().randrange(1 << 32)
    bad, count = try_states(told.binary, told.room, seed, told.states, told.liar)
    for cut, wrong in bad[:5]:
        print(f"  cut at {cut}: {len(wrong)} wrong: {'; '.join(wrong[:3])}")
    print(f"{len(bad)} of {count} states are bad")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
