"""A file of lines that is rotated: at a size, on each day, or when it is asked to.

``FILE`` becomes ``FILE.1``, which was before renamed to ``FILE.2``, and so on. The oldest ones are deleted. A thread
compresses rotated files to ``FILE.1.gz``, and so on. Deleting and renaming never wait for that thread.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from twisted.logger import Logger

DAY: Final = 86_400
"""Seconds of a day."""

RETRY: Final = 60.0
"""Seconds until a rotation that failed is tried again. Until then the file grows."""

_SUFFIX: Final = re.compile(r"\.([1-9]\d{0,8})(\.gz)?")


class Rotation(NamedTuple):
    """When a file is rotated, and what is kept.

    :ivar size: the most bytes of the file. :ivar daily: whether it is rotated on each day (UTC) instead.
    :ivar files: the most rotated files. :ivar total: the most bytes of all files; 0: no limit.
    :ivar compress: whether rotated files are compressed.
    """

    size: int
    files: int
    daily: bool = False
    total: int = 0
    compress: bool = False

    @property
    def limit(self) -> int:
        """The largest size of the file, at most half of *total*; 0: none."""
        half = self.total // 2
        if self.daily:
            return half
        return min(self.size, half) if half else self.size


class Rotated(NamedTuple):
    """A rotated file. :ivar number: 1 is the latest. :ivar path: where it is."""

    number: int
    path: str


def rotated_files(path: str) -> list[Rotated]:
    """Return the rotated files of the file *path*, the latest first.

    :raise OSError: the folder cannot be read.
    """
    folder, name = os.path.split(path)
    found = []
    for entry in os.listdir(folder or "."):
        if entry.startswith(name) and (match := _SUFFIX.fullmatch(entry, len(name))):
            found.append(Rotated(int(match[1]), os.path.join(folder, entry)))
    return sorted(found)


class RotatedFile:
    """A file of lines that is rotated; see the module. One thread at a time may write.

    A rotation or compression that fails is logged, and the file is written to all the same.

    :param time: gives Unix time, in seconds.
    :raise OSError: the file cannot be opened.
    """

    log = Logger()

    def __init__(self, path: str, rotation: Rotation, time: Callable[[], float] = time.time) -> None:
        self.path = os.path.abspath(path)
        self._rotation = rotation
        self._time = time
        self._names = threading.Lock()  # held while files are renamed, never while one is read
        self._compressing = self._failed = self._torn = self._wanted = self._started = False
        self._retry_at = 0.0
        self._file = self._open()

    def _open(self) -> int:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        status = os.fstat(file)
        self._regular = stat.S_ISREG(status.st_mode)
        self._size = status.st_size
        self._day = (status.st_mtime if self._size else self._time()) // DAY
        return file

    @property
    def _part(self) -> str:
        return f"{self.path}.gz.part"

    def write(self, lines: Sequence[bytes]) -> None:
        """Write *lines*; each ends with a newline.

        :raise OSError: they are not, or not all, written.
        """
        waiting: list[bytes] = []
        size = 0
        for line in lines:
            if self._is_due(self._size + size, len(line)):
                self._write(b"".join(waiting))
                self._rotate()
                waiting, size = [], 0
            waiting.append(line)
            size += len(line)
        self._write(b"".join(waiting))

    def _is_due(self, size: int, more: int) -> bool:
        if not self._regular:
            return False
        if self._wanted:
            return True
        now, limit = self._time(), self._rotation.limit
        if not size or now < self._retry_at:
            return False
        return (self._rotation.daily and now // DAY > self._day) or bool(limit and size + more > limit)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        left = memoryview(b"\n" + data if self._torn else data)  # ends a line that was written in part
        while left:
            written = os.write(self._file, left)
            self._size += written
            self._torn = left[written - 1] != 0x0A
            left = left[written:]

    def rotate_soon(self) -> None:
        """Rotate the file when something, also nothing, is written the next time. Call it in any thread."""
        self._wanted = True

    def _rotate(self) -> None:
        """Rotate the file. If it was moved away by another program, only open it again."""
        self._wanted = False
        try:
            with self._names:
                if self._is_here():
                    self._rename()
                file, before = self._open(), self._file
                self._file, self._retry_at = file, 0.0
                os.close(before)
                self._delete_oldest()
            self._failed = False
        except OSError as error:
            self._retry_at = self._time() + RETRY
            self._report(
                "cannot rotate {file}: {error}; it grows until that is possible (logged once)", error
            )
        self._compress_soon()

    def _is_here(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _rename(self) -> None:
        for number, path in reversed(rotated_files(self.path)):
            if number >= self._rotation.files:
                os.unlink(path)
            else:
                os.rename(path, f"{self.path}.{number + 1}{'.gz' if path.endswith('.gz') else ''}")
        os.rename(self.path, f"{self.path}.1")

    def _delete_oldest(self) -> None:
        """Delete the oldest files until there is room for the current one. *_names* is held."""
        total = self._rotation.total
        files = rotated_files(self.path) if total else []
        sizes = [os.stat(each.path).st_size for each in files]
        while files and sum(sizes) > total - self._rotation.limit:
            os.unlink(files.pop().path)
            sizes.pop()

    def _report(self, text: str, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            self.log.error(text, file=self.path, error=error.strerror or error)

    # In its thread

    def start(self) -> None:
        """Compress rotated files from now on, if that is wanted: the thread would not survive a ``fork``."""
        with suppress(OSError):  # of a compression that was interrupted
            os.unlink(self._part)
        self._started = True
        self._compress_soon()

    def _compress_soon(self) -> None:
        wanted = self._rotation.compress and self._started and self._regular
        if wanted and not self._compressing:
            self._compressing = True
            threading.Thread(target=self._compress_all, name="txmicro log compression", daemon=True).start()

    def _compress_all(self) -> None:
        """Compress the rotated files that are not compressed, the latest first."""
        try:
            while (path := self._next()) is not None:
                self._compress(path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(self._part)
            self._report(
                "cannot compress a rotated file of {file}: {error}; it is tried again after the next rotation "
                "(logged once)",
                error,
            )
            self._compressing = False

    def _next(self) -> str | None:
        with self._names:
            for _, path in rotated_files(self.path):
                if not path.endswith(".gz"):
                    return path
            self._compressing = False
            return None

    def _compress(self, path: str) -> None:
        """Compress the file that has the name *path* now, and may be renamed or deleted meanwhile."""
        with open(path, "rb") as source:
            status = os.fstat(source.fileno())
            with gzip.open(self._part, "wb", compresslevel=6) as target:
                shutil.copyfileobj(source, target, 1 << 16)
            os.chmod(self._part, stat.S_IMODE(status.st_mode))
            os.utime(self._part, ns=(status.st_atime_ns, status.st_mtime_ns))
            with self._names:
                for _, name in rotated_files(self.path):
                    if os.path.samestat(os.stat(name), status):
                        os.rename(self._part, f"{name}.gz")
                        os.unlink(name)
                        break
                else:
                    os.unlink(self._part)
                self._delete_oldest()

    def close(self) -> None:
        """Close the file. A compression that runs goes on."""
        file, self._file = self._file, -1  # a write that is blocked must not go on in another file
        os.close(file)
