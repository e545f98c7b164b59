"""What a node does not use takes no memory."""

from __future__ import annotations

import subprocess
import sys

ONLY_WHERE_USED = {"boto3", "botocore", "cryptography"}


def test_a_node_imports_nothing_for_s3_or_tls_before_it_needs_that():
    code = f"import sys, dcron.node; print(*({ONLY_WHERE_USED!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_node_does_not_load_what_only_commands_print_with():
    settings = {"DCRON_STORE": "nonsense:", "DCRON_OBJECTS": "nonsense:", "DCRON_SPOOL": "/nowhere"}
    code = (
        "import sys; from click.testing import CliRunner; from dcron.cli.serve import serve; "
        f"CliRunner().invoke(serve, env={settings!r}); "
        "print(*({'dcron.node', 'rich', 'pygments'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dcron.node"]
