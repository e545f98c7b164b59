"""OpenStack Swift with its S3 API, all services in this one process: `serve.py FOLDER`.

Reads S3_ACCESS_KEY (`account:user`) and S3_SECRET_KEY from the environment. Prints the S3 port as one
line once all services listen; a folder keeps its ports. Ends at the end of standard input, so that it
never outlives the test that started it.
"""

from __future__ import annotations

import eventlet

eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True, time=True)

import json  # noqa: E402 - eventlet must come before all that opens sockets
import logging  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from configuration import BACKENDS, write_configuration  # noqa: E402
from eventlet import wsgi  # noqa: E402
from eventlet.hubs import trampoline  # noqa: E402
from swift.common.utils import set_swift_dir  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, which could hold a port while we are stopped."""
PORT_ATTEMPTS = 200
GREEN_THREADS = 256


class ProcessCache:
    """What Swift keeps in memcached, exact here since there is one process; items expire when read."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[object, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> object:
        value, expires = self._items.get(key, (None, 0.0))
        return None if expires and expires < time.time() else value

    def set(self, key: str, value: object, time: float = 0, **_: object) -> None:
        self._items[key] = (value, _expiry(time))

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        total = max(0, int(str(self.get(key) or 0)) + delta)
        self._items[key] = (total, _expiry(time))
        return total

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._items.pop(key, None)


def _expiry(lifetime_seconds: float) -> float:
    return time.time() + lifetime_seconds if lifetime_seconds else 0.0


def _listen(folder: Path) -> dict[str, socket.socket]:
    """Sockets of all services: on the ports of last time, else on any four that are free."""
    services = ("proxy", *BACKENDS)
    memory = folder / "ports.json"
    if memory.exists():
        return {
            name: eventlet.listen(("127.0.0.1", port))
            for name, port in json.loads(memory.read_text()).items()
        }
    sockets: dict[str, socket.socket] = {}
    for port in random.sample(PORTS, PORT_ATTEMPTS):
        try:
            sockets[services[len(sockets)]] = eventlet.listen(("127.0.0.1", port), reuse_port=False)
        except OSError:
            continue
        if len(sockets) == len(services):
            memory.write_text(json.dumps({name: each.getsockname()[1] for name, each in sockets.items()}))
            return sockets
    raise SystemExit(f"no four free ports on 127.0.0.1 in {PORT_ATTEMPTS} attempts")


def _serve(listener: socket.socket, application: object) -> None:
    # Small answers would otherwise wait for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    silent = logging.getLogger("swift_s3.wsgi")
    silent.setLevel(logging.CRITICAL)
    wsgi.server(
        listener,
        application,
        silent,
        protocol=SwiftHttpProtocol,
        capitalize_response_headers=False,
        log_output=False,
        max_size=GREEN_THREADS,
    )


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    listeners = _listen(folder)
    ports = {name: each.getsockname()[1] for name, each in listeners.items()}
    write_configuration(folder, ports, os.environ["S3_ACCESS_KEY"], os.environ["S3_SECRET_KEY"])
    set_swift_dir(str(folder))
    cache = ProcessCache()
    for name, listener in listeners.items():
        application = loadapp(str(folder / f"{name}.conf"), global_conf={"log_name": "swift"})

        def with_cache(environment, respond, application=application):
            environment["swift.cache"] = cache
            return application(environment, respond)

        eventlet.spawn(_serve, listener, with_cache)
    print(ports["proxy"], flush=True)
    trampoline(sys.stdin.fileno(), read=True)


if __name__ == "__main__":
    main()
