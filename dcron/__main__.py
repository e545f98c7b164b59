"""`python -m dcron`."""

from __future__ import annotations

import sys

from dcron.cli.main import main

sys.exit(main())
