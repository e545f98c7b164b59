"""A node's settings: a TOML file and DCRON_* environment variables, read and validated once.

The environment wins over the file. Store URLs may hold a password, so no message ever repeats them.
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dcron.domain.errors import InvalidInput, SetupError
from dcron.domain.validation import DEFAULT_MAX_SCRIPT_BYTES, check_labels, check_node_id

__all__ = ["DEFAULT_LISTEN", "Settings", "load_settings"]

DEFAULT_LISTEN = "127.0.0.1:7420"
_WILDCARDS = {"0.0.0.0", "[::]", "::", ""}  # noqa: S104 - recognised, not bound
_MIN_LEASE_SECONDS = 1.0
_MAX_LEASE_SECONDS = 600.0
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Settings:
    """What one node is told. `store` and `objects` are URLs; see docs/configuration.md."""

    store: str = field(repr=False)
    objects: str = field(repr=False)
    spool: Path
    node_id: str
    listen: str
    advertise: str
    slots: int
    labels: Mapping[str, str]
    lease_seconds: float
    log_format: str
    log_level: str
    max_log_bytes: int
    max_script_bytes: int


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a file (None: no file) and the environment; SetupError names what is wrong."""
    values = _from_file(path) if path else {}
    values |= _from_environment(environment)
    listen = _address("listen", _text(values, "listen", DEFAULT_LISTEN))
    return Settings(
        store=_required(values, "store"),
        objects=_required(values, "objects"),
        spool=Path(_required(values, "spool")).absolute(),
        node_id=_checked("node_id", check_node_id, _text(values, "node_id", socket.gethostname())),
        listen=listen,
        advertise=_address("advertise", _text(values, "advertise", _advertised(listen))),
        slots=_integer(values, "slots", 32, 1, 10_000),
        labels=_labels(values.get("labels", {})),
        lease_seconds=_lease(values.get("lease_seconds", 6.0)),
        log_format=_choice(values, "log_format", "text", ("text", "json")),
        log_level=_choice(values, "log_level", "info", ("debug", "info", "warning", "error")),
        max_log_bytes=_integer(values, "max_log_bytes", 256 * 1024**2, 1024, 1024**4),
        max_script_bytes=_integer(values, "max_script_bytes", DEFAULT_MAX_SCRIPT_BYTES, 1, 1024**3),
    )


_NAMES = frozenset(Settings.__dataclass_fields__)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"configuration file {path} is not valid TOML: {error}") from error
    unknown = sorted(values.keys() - _NAMES)
    if unknown:
        near = get_close_matches(unknown[0], _NAMES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(_NAMES))}"
        raise SetupError(f"configuration file {path}: unknown setting {unknown[0]!r}; {remedy}")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: environment[variable] for name in _NAMES if (variable := f"DCRON_{name.upper()}") in environment
    }


def _required(values: Mapping[str, Any], name: str) -> str:
    text = _text(values, name, "")
    if not text:
        raise SetupError(f"{name} is not set: give it in the configuration file or as DCRON_{name.upper()}")
    return text


def _text(values: Mapping[str, Any], name: str, default: str) -> str:
    value = values.get(name, default)
    if not isinstance(value, str):
        raise SetupError(f"{name}: expected text in quotes")
    return value


def _checked(name: str, check: Callable[[str], None], value: str) -> str:
    try:
        check(value)
    except InvalidInput as error:
        raise SetupError(f"{name}: {error.message}") from error
    return value


def _integer(values: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = values.get(name, default)
    try:
        # From a file it has to be a number without a fraction; true and false are none.
        number = int(value) if type(value) in (int, str) else least - 1
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise SetupError(f"{name}: expected a whole number from {least} to {most}")
    return number


def _lease(value: Any) -> float:
    try:
        seconds = float(value) if type(value) in (int, float, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not _MIN_LEASE_SECONDS <= seconds <= _MAX_LEASE_SECONDS:
        raise SetupError(
            f"lease_seconds: expected a number from {_MIN_LEASE_SECONDS:g} to {_MAX_LEASE_SECONDS:g}"
        )
    return seconds


def _choice(values: Mapping[str, Any], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = _text(values, name, default).lower()
    if value not in choices:
        raise SetupError(f"{name}: {value!r} is not one of {', '.join(choices)}")
    return value


def _labels(value: Any) -> dict[str, str]:
    """Labels of a TOML table, or of `key=value,key=value`."""
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        value = {key.strip(): text.strip() if sign else None for key, sign, text in pairs}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise SetupError("labels: expected key=value,key=value or a table of texts")
    try:
        check_labels(value)
    except InvalidInput as error:
        raise SetupError(str(error)) from error
    return value


def _address(name: str, value: str) -> str:
    host, separator, port = value.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and 0 < int(port) <= _MAX_PORT
    if not separator or not is_port:
        raise SetupError(f"{name}: {value!r} is not host:port")
    if name == "advertise" and host in _WILDCARDS:
        raise SetupError(f"advertise: {value!r} is no address at which other nodes reach this one")
    return value


def _advertised(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in _WILDCARDS else listen
