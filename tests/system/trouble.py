"""Types README's section "When something is wrong" into one shell, and holds what is said against its table."""

import os
import subprocess
import sys
import tempfile
import time

END = "__end_of_command__"
section = open("README.md").read().split("\n## When something is wrong\n")[1].split("\n## ")[0]
first = section.split("\n```\n")[1].split("\n")
rows = [line[1:-1].split("|") for line in section.split("\n") if line.startswith("| ")][1:]
environment = {key: value for key, value in os.environ.items() if not key.startswith("DESKSPOOL")}
scratch = tempfile.TemporaryDirectory()
environment |= {"NO_COLOR": "1", "TMPDIR": scratch.name}
shell = subprocess.Popen(["bash", "-m"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def typed(command):
    """What it says."""
    shell.stdin.write(f"{command}\necho {END}\n")
    shell.stdin.flush()
    said = ""
    for line in shell.stdout:
        before, ended, _ = line.partition(END)
        said += before
        if ended:
            return said
    sys.exit(f"not ok {command}: the shell ended: {said}")


def until(command, wanted):
    """Typed again while it says something else, as what it is about takes its time."""
    deadline = time.monotonic() + 20
    said = typed(command)
    while wanted not in said and time.monotonic() < deadline:
        time.sleep(0.3)
        said = typed(command)
    return said


def code(cell):
    return cell.strip().strip("`")


for command in first:
    if command.startswith("cargo") and not os.path.samefile(os.environ["BUILT"], "target/release"):
        continue
    typed(command.replace("$PWD/target/release", os.path.abspath(os.environ["BUILT"])))
    port = {"deskspool sandbox": 8090, "deskspool serve": 8085}.get(" ".join(command.split()[:2]))
    if port:
        until(f"(: </dev/tcp/127.0.0.1/{port}) 2>&1 && echo it listens", "it listens")
for row in rows:
    broken, symptom, command, wanted = (cell.strip() for cell in row)
    if broken:
        typed(code(broken))
    # What changes something is typed once.
    says = until if code(command).split()[1] in ("status", "queue", "show", "refused") else lambda command, _: typed(command)
    said = says(code(command), code(wanted))
    print(f"ok {symptom} {code(command)}" if code(wanted) in said else f"not ok {symptom} {code(command)}: no {code(wanted)!r} in: {said!r}")
typed("kill $(jobs -p)")
shell.stdin.close()
shell.wait(20)
scratch.cleanup()
if len(rows) != 20:
    print(f"not ok the table: {len(rows)} rows")
