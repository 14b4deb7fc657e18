"""Types into a program as on a terminal: typed.py COMMAND… -- PROMPT ANSWER PROMPT ANSWER …
Waits for each prompt, prints all that was seen, and ends with the program's exit code."""

import os
import pty
import select
import sys
import time

split = sys.argv.index("--")
command, script = sys.argv[1:split], sys.argv[split + 1 :]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
seen, at, deadline = "", 0, time.monotonic() + 120


def read():
    global seen
    if not select.select([terminal], [], [], 0.2)[0]:
        return True
    try:
        data = os.read(terminal, 65536)
    except OSError:
        return False
    seen += data.decode(errors="replace")
    return bool(data)


for prompt, answer in zip(script[::2], script[1::2]):
    while prompt not in seen[at:] and time.monotonic() < deadline and read():
        pass
    at = len(seen)
    os.write(terminal, f"{answer}\r".encode())
while time.monotonic() < deadline and read():
    pass
print(seen.replace("\r", ""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
