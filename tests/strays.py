"""Scripts that do not want to be stopped, as text for `python3`. Each prints the pids that are to go."""

from __future__ import annotations

_BEGIN = """
import os, signal, sys, time

def ignore_term():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

def stay():
    print("left", os.getpid(), flush=True)
    while True:
        time.sleep(600)

def detach(then):
    '''Run it in a session of its own, without a parent of ours; return once it is on its own.'''
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        then()
    os.waitpid(first, 0)
"""

DAEMON = f"""{_BEGIN}
ignore_term()
detach(stay)
stay()
"""
"""Double-forks, calls setsid, ignores TERM, and holds the log open in both processes."""

CHILDREN = f"""{_BEGIN}
for _ in range(3):
    if os.fork() == 0:
        ignore_term()
        stay()
stay()
"""
"""Ends at TERM itself and leaves children that do not."""

NAMELESS = f"""{_BEGIN}
def forget():
    ignore_term()
    code = "import os, time; print('left', os.getpid(), flush=True); time.sleep(600)"
    os.execve(sys.executable, [sys.executable, "-c", code], {{}})

detach(forget)
stay()
"""
"""Leaves a process without its environment, session, group and parent: nothing tells whose it is."""

HEADLESS = f"""{_BEGIN}
import ctypes, platform, threading
threading.Thread(target=stay).start()
EXIT = {{"x86_64": 60, "aarch64": 93}}[platform.machine()]
ctypes.CDLL(None).syscall(EXIT, 0)
"""
"""Its first thread ends, and looks like a zombie, while another one goes on."""

FORKING = f"""{_BEGIN}
def multiply():
    while True:
        if os.fork():
            time.sleep(0.02)
            os._exit(0)
        os.setsid()

ignore_term()
detach(multiply)
stay()
"""
"""Has a descendant that is another process, in another session, each time one looks."""


def left_pids(log: str) -> list[int]:
    """The pids that one of these scripts has printed."""
    return [int(line.removeprefix("left ")) for line in log.splitlines() if line.startswith("left ")]
