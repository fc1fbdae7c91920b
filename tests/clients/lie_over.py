"""Let a virtual environment see the packages of the one that runs this, after its own."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def main(environment: Path) -> None:
    """Write the file by which Python finds them; `addsitedir` reads those of editable installs."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = environment / "lib" / version / "site-packages" / "zz_shared.pth"
    target.write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
