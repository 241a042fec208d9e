"""Small disks: a tmpfs where mounting is allowed, else a limit on the size of files."""

import subprocess
from contextlib import contextmanager


class SmallDisk:
    """A mounted tmpfs at ``path``. ``fill`` leaves little space, ``make_room`` gives it back; ``remount``: ro or rw."""

    def __init__(self, path):
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, left_kb):
        """Fill the disk but for so many kB."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                size = file.tell()
            file.truncate(max(size - left_kb * 1024, 0))

    def make_room(self):
        self._ballast.unlink()

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)


@contextmanager
def small_disk(path, size_mb):
    """Mount a tmpfs at ``path``; yields a ``SmallDisk``, or the reason why there is none."""
    path.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        yield f"no mount command ({error})"
        return
    if done.returncode:
        yield f"a tmpfs cannot be mounted here ({done.stderr.strip()})"
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
