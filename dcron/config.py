"""A node's settings: a TOML file and DCRON_* environment variables, read and validated once.

The environment wins over the file. Store URLs may hold a password, so no message ever repeats them.
"""

from __future__ import annotations

import ipaddress
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dcron.credentials import CertificateFiles
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
    """Settings of one node. `store` and `objects` are URLs; see docs/configuration.md."""

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
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    insecure: bool = False
    store_ca: Path | None = None
    objects_ca: Path | None = None

    @property
    def tls(self) -> CertificateFiles | None:
        """The node's certificate; None without TLS."""
        if self.tls_certificate and self.tls_key and self.tls_ca:
            return CertificateFiles(self.tls_certificate, self.tls_key, self.tls_ca)
        return None

    @property
    def open_to_others(self) -> bool:
        """Whether other machines reach this node."""
        return not _is_loopback(self.listen)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a file (None: no file) and the environment; SetupError names what is wrong."""
    values = _from_file(path) if path else {}
    values |= _from_environment(environment)
    listen = _address("listen", _text(values, "listen", DEFAULT_LISTEN))
    settings = Settings(
        store=_store(values),
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
        tls_certificate=_path(values, "tls_certificate"),
        tls_key=_path(values, "tls_key"),
        tls_ca=_path(values, "tls_ca"),
        insecure=_flag(values, "insecure"),
        store_ca=_path(values, "store_ca"),
        objects_ca=_path(values, "objects_ca"),
    )
    _require_protection(settings)
    return settings


def _require_protection(settings: Settings) -> None:
    """SetupError where the TLS settings make no whole, or others could talk to the node without TLS."""
    given = {name: getattr(settings, name) is not None for name in _TLS_NAMES}
    if any(given.values()) and not all(given.values()):
        missing = ", ".join(name for name, is_given in given.items() if not is_given)
        raise SetupError(f"TLS needs {', '.join(_TLS_NAMES)}: {missing} is not set")
    if settings.tls and settings.insecure:
        raise SetupError("insecure: contradicts tls_certificate; keep one of them")
    if settings.open_to_others and not settings.tls and not settings.insecure:
        raise SetupError(
            f"listen: {settings.listen} can be reached by other machines, and without TLS anybody there"
            " could run scripts here; set tls_certificate, tls_key and tls_ca (docs/security.md), listen on"
            " 127.0.0.1, or take the risk with --insecure (insecure = true)"
        )


_TLS_NAMES = ("tls_certificate", "tls_key", "tls_ca")


_NAMES = frozenset({*Settings.__dataclass_fields__, "store_password_file"})


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


def _store(values: Mapping[str, Any]) -> str:
    """The store's URL, complete: its password may be in a file that only the node has to read."""
    url = _required(values, "store")
    path = _text(values, "store_password_file", "")
    if not path:
        return url
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not (at and user) or ":" in user:
        raise SetupError(
            "store_password_file: the store is to name a user and no password: couchdb://user@host:5984/prefix"
        )
    try:
        password = Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except OSError as error:
        raise SetupError(f"store_password_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SetupError(f"store_password_file: {path} is not UTF-8") from None
    if not password:
        raise SetupError(f"store_password_file: {path} is empty")
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


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


def _path(values: Mapping[str, Any], name: str) -> Path | None:
    text = _text(values, name, "")
    return Path(text).absolute() if text else None


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name, False)
    told = _FLAGS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(told, bool):
        raise SetupError(f"{name}: expected true or false")
    return told


_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


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


def _is_loopback(listen: str) -> bool:
    """A name other than localhost is taken for reachable: what it means may change while we listen."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _advertised(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in _WILDCARDS else listen
