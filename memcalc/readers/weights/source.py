"""Bounded reading of binary headers: every length is checked against what is left before anything is read or kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.files import regular_file

MAX_TENSORS = 500_000  # in one file; the largest published shards hold some ten thousand


class OpenFile(NamedTuple):
    """An open file, local or remote, with its size in bytes [B] and the name that errors use."""

    file: BinaryIO
    size: int
    place: str

    @property
    def left(self) -> int:
        return self.size - self.file.tell()

    def read(self, length: int, what: str) -> bytes:
        """Exactly so many bytes, or an error that says of what there were too few."""
        if length > self.left:
            raise InputError(f"truncated: {what} needs {length} bytes, {max(self.left, 0)} are left", place=self.place)
        data = self.file.read(length)
        if len(data) != length:
            raise InputError(f"truncated while reading {what}", place=self.place)
        return data

    def error(self, message: str) -> InputError:
        return InputError(message, place=self.place)


@contextmanager
def opened(path: str) -> Iterator[OpenFile]:
    """A regular local file."""
    with regular_file(path) as file:
        yield OpenFile(file, os.fstat(file.fileno()).st_size, path)
