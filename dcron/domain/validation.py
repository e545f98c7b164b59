"""Validation of requests: names, specifications and words of a person, checked before anything is stored.

Every error is InvalidInput with the field at fault, what is wrong and what is allowed. Values are shown
as Python writes them, so that control characters are seen and cannot move a terminal's cursor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from dcron.domain.bounds import Bounds, bounds_of
from dcron.domain.cron import parse_schedule
from dcron.domain.errors import InvalidInput
from dcron.domain.model import Script, Specification

__all__ = [
    "DEFAULT_MAX_SCRIPT_BYTES",
    "MAX_TEXT_BYTES",
    "check_digest",
    "check_job_name",
    "check_labels",
    "check_name_prefix",
    "check_node_id",
    "check_note",
    "check_request_id",
    "check_script",
    "check_size",
    "check_specification",
    "is_job_name",
    "shown",
]

DEFAULT_MAX_SCRIPT_BYTES = 10 * 1024 * 1024
MAX_TEXT_BYTES = 64 * 1024
"""Arguments, environment and labels of a job together: they travel with every offer of it."""
MAX_TEXTS = 1_000
"""Arguments of a job, and environment variables of it, at most."""
MAX_LABELS = 64
MAX_FILE_NAME_BYTES = 255
MAX_INTERPRETER_BYTES = 1024
MAX_NOTE_CHARACTERS = 500
MAX_REQUEST_ID_CHARACTERS = 64
MAX_SHOWN_CHARACTERS = 80
RESERVED_PREFIX = "DCRON_"

_JOB_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9._/-]{0,63}")


def shown(text: str) -> str:
    """A value from outside as it may appear in a message: quoted, escaped, cut."""
    if len(text) > MAX_SHOWN_CHARACTERS:
        return f"{text[:MAX_SHOWN_CHARACTERS]!r}…"
    return repr(text)


def is_job_name(name: str) -> bool:
    """Whether a job can have this name."""
    return _JOB_NAME.fullmatch(name) is not None


def check_job_name(name: str) -> None:
    """Refuse what cannot be a job's name."""
    if not is_job_name(name):
        raise InvalidInput(
            "name",
            f"{shown(name)} cannot be a job's name; use up to 100 of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or digit",
        )


def check_name_prefix(prefix: str) -> None:
    """Refuse what no job's name begins with."""
    if prefix and not is_job_name(prefix):
        raise InvalidInput(
            "name_prefix",
            f"{shown(prefix)} begins no job's name; use up to 100 of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or digit",
        )


def check_specification(specification: Specification, *, max_script_bytes: int) -> None:
    """Refuse a specification that could not be run, or could only be run by harming the cluster.

    Whether a worker has the interpreter shows when the script is run there."""
    parse_schedule(specification.schedule, specification.timezone)
    _check_interpreter(specification.interpreter)
    check_script(specification.script, max_script_bytes=max_script_bytes)
    _check_arguments(specification.arguments)
    _check_environment(specification.environment)
    check_labels(specification.labels)
    _check_text_size(specification)
    for declared in fields(specification):
        _check_bounds(declared.name, getattr(specification, declared.name), bounds_of(declared))


def check_script(script: Script, *, max_script_bytes: int) -> None:
    """Refuse a script that cannot be addressed, is empty, or is larger than the limit."""
    check_digest("script", script.sha256)
    check_size("script", script.size_bytes, max_script_bytes=max_script_bytes)
    name = script.file_name
    if "/" in name or name in {".", ".."}:
        raise InvalidInput("script", f"file name {shown(name)} must be a name without folders")
    if _has_control(name):
        raise InvalidInput("script", f"file name {shown(name)} must not hold control characters")
    if len(name.encode()) > MAX_FILE_NAME_BYTES:
        raise InvalidInput("script", f"file name must not be longer than {MAX_FILE_NAME_BYTES} bytes")


def check_digest(field: str, sha256: str) -> None:
    """Refuse what is not a SHA-256 in lower-case hexadecimal."""
    if not _DIGEST.fullmatch(sha256):
        raise InvalidInput(field, f"{shown(sha256)} is not a SHA-256; give 64 lower-case hexadecimal digits")


def check_size(field: str, size_bytes: int, *, max_script_bytes: int) -> None:
    """Refuse the size of an empty or oversized script."""
    if size_bytes < 1:
        raise InvalidInput(field, "the script is empty; give one with at least one byte")
    if size_bytes > max_script_bytes:
        raise InvalidInput(
            field,
            f"the script has {size_bytes} bytes, at most {max_script_bytes} are taken; "
            "let it fetch what it needs, or raise the nodes' limit",
        )


def check_note(field: str, text: str, *, required: bool) -> None:
    """Refuse a person's words that are missing, too long, or hold control characters."""
    if required and not text.strip():
        raise InvalidInput(field, "must not be empty")
    if len(text) > MAX_NOTE_CHARACTERS:
        raise InvalidInput(field, f"must not be longer than {MAX_NOTE_CHARACTERS} characters")
    if _has_control(text):
        raise InvalidInput(field, f"{shown(text)} must be one line without control characters")


def check_request_id(text: str) -> None:
    """Refuse what cannot name a run."""
    if not text or len(text) > MAX_REQUEST_ID_CHARACTERS or _has_control(text):
        raise InvalidInput(
            "request_id",
            f"{shown(text)} is not valid; give each run a text of its own, such as a UUID, of 1 to "
            f"{MAX_REQUEST_ID_CHARACTERS} characters without control characters",
        )


def _check_interpreter(interpreter: str) -> None:
    if _has_control(interpreter):
        raise InvalidInput("interpreter", f"{shown(interpreter)} must not hold control characters")
    if len(interpreter.encode()) > MAX_INTERPRETER_BYTES:
        raise InvalidInput("interpreter", f"must not be longer than {MAX_INTERPRETER_BYTES} bytes")
    if interpreter.startswith("/"):
        return
    if "/" in interpreter or " " in interpreter or interpreter.startswith("-"):
        raise InvalidInput(
            "interpreter",
            f"{shown(interpreter)} is not valid; give the name of one program on the worker's PATH, "
            "an absolute path, or nothing for the script's own #! line (options go into that line)",
        )


def _check_arguments(arguments: tuple[str, ...]) -> None:
    if len(arguments) > MAX_TEXTS:
        raise InvalidInput("arguments", f"there are {len(arguments)}, at most {MAX_TEXTS} are taken")
    for argument in arguments:
        if "\0" in argument:
            raise InvalidInput("arguments", f"{shown(argument)} holds a NUL, which no program can get")


def _check_environment(environment: Mapping[str, str]) -> None:
    if len(environment) > MAX_TEXTS:
        raise InvalidInput("environment", f"there are {len(environment)}, at most {MAX_TEXTS} are taken")
    for name, value in environment.items():
        if not _ENVIRONMENT_NAME.fullmatch(name):
            raise InvalidInput(
                "environment",
                f"{shown(name)} cannot be a variable's name; use letters, digits and '_', "
                "not starting with a digit",
            )
        if name.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                "environment", f"{shown(name)}: names starting with {RESERVED_PREFIX} are set by dcron itself"
            )
        if "\0" in value:
            raise InvalidInput("environment", f"the value of {name} holds a NUL character")


def check_node_id(node_id: str, field: str = "node_id") -> None:
    """Refuse what cannot name a node; `field` is where it was given."""
    if not _NODE_ID.fullmatch(node_id):
        raise InvalidInput(
            field, f"{shown(node_id)} is not valid; use up to 63 letters, digits, '.', '_' and '-'"
        )


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse what a label cannot be, of a job or of a node."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput("labels", f"there are {len(labels)}, at most {MAX_LABELS} are taken")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidInput(
                "labels",
                f"{shown(f'{key}={value}')} is not valid; use up to 63 letters, digits, '.', '_', '/', '-' "
                "on each side, the key starting with a letter or digit",
            )


def _check_text_size(specification: Specification) -> None:
    """Name the largest part, for that is the one to shorten."""
    sizes = {
        "arguments": sum(len(argument.encode()) for argument in specification.arguments),
        "environment": _pairs_size(specification.environment),
        "labels": _pairs_size(specification.labels),
    }
    total = sum(sizes.values())
    if total > MAX_TEXT_BYTES:
        largest = max(sizes, key=lambda field: sizes[field])
        raise InvalidInput(
            largest,
            f"arguments, environment and labels have {total} bytes together, at most {MAX_TEXT_BYTES} are "
            "taken; put large values into the script",
        )


def _pairs_size(pairs: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in pairs.items())


def _check_bounds(name: str, value: float, bounds: Bounds | None) -> None:
    if bounds is None or bounds.allow(value):
        return
    unit = " seconds" if name.endswith("_seconds") else ""
    allowed = f"{bounds.least:g} to {bounds.most:g}{unit}{bounds.remark}"
    raise InvalidInput(name.removesuffix("_seconds"), f"{value:g} is not valid; give {allowed}")


def _has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None
