"""Variables that scripts inherit of their node's environment."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["script_environment"]

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def script_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that scripts inherit of the node's environment: where programs are and who runs them, no
    secrets."""
    passed_on = {name: environment[name] for name in _PASSED_ON if name in environment}
    return {"PATH": _DEFAULT_PATH, "SHELL": "/bin/sh", **passed_on}
