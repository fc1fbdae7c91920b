"""The examples of the integrations' README, by the heading that they stand under."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "shared" / "assay" / "integrations" / "README.md"
DEFAULT_URL = "http://127.0.0.1:8000"


def example(heading: str, url: str) -> str:
    """The code under a heading, with a server's URL in place of the default one."""
    (section,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README.read_text(), re.DOTALL | re.MULTILINE
    )
    (code,) = re.findall(r"```(?:python|bash)\n(.*?)```", section, re.DOTALL)
    lines = len(code.splitlines())
    assert lines <= 14, f"{heading}: {lines} lines"
    return str(code).replace(DEFAULT_URL, url)
