"""CAs whose certificates are believed when a store is reached by TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from dcron.domain.errors import SetupError

__all__ = ["trusting"]


def trusting(setting: str, ca: Path) -> ssl.SSLContext:
    """A context that believes the certificates of the CAs in a PEM file and no others. SetupError names the
    `setting` that the file comes from, where it cannot be used."""
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise SetupError(f"{setting}: {ca} holds no certificate in PEM") from None
    except OSError as error:
        raise SetupError(f"{setting}: {ca}: {error.strerror}") from error
