"""Part of the python package of the local channel: every process notes where its modules came from."""

import atexit
import os
import site
import sys

PREFIX = sys.prefix
PACKAGES = f"{PREFIX}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

if PACKAGES not in sys.path:  # Debian's Python looks into dist-packages only
    site.addsitedir(PACKAGES)


def _note_modules():
    import json

    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    note = {
        "argv": sys.argv,
        "executable": sys.executable,
        "prefix": PREFIX,
        "modules": {name: path for name, path in files.items() if path},
    }
    folder = os.path.join(PREFIX, "var", "processes")  # noqa: PTH118 - nothing may be imported before the script
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with open(os.path.join(folder, f"{os.getpid()}.json"), "w", encoding="utf-8") as stream:  # noqa: PTH118, PTH123
        json.dump(note, stream)


atexit.register(_note_modules)
