"""The commands of docs/security.md make certificates that dcron takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dcron.certificates import is_of_ca, read_credentials
from dcron.credentials import CertificateFiles
from dcron.domain.access import Role, roles_of

PAGE = Path(__file__).parents[2] / "docs/security.md"


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("bash")), reason="no openssl, or no bash")
def test_the_commands_make_certificates_with_the_roles_that_they_name(tmp_path):
    [commands] = re.findall(r"^```\n(openssl .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60)

    made = {
        name: read_credentials(
            CertificateFiles(tmp_path / f"{name}.pem", tmp_path / f"{name}-key.pem", tmp_path / "ca.pem")
        )
        for name in ("n1", "alice")
    }

    assert roles_of(made["n1"].identity.units) == {Role.NODE}
    assert made["n1"].identity.hosts == ("n1.example", "192.0.2.1")
    assert roles_of(made["alice"].identity.units) == {Role.OPERATOR}
    assert all(is_of_ca(credentials) for credentials in made.values())
