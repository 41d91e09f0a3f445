"""hf://org/name[@revision][/file]: a repository on the Hugging Face hub, of which only headers are fetched.

The one reader that goes over the network, and only for a name typed that way. `huggingface_hub` (memcalc[hub]) gives the
session, the user's token and the addresses; HF_ENDPOINT names another server. Weight files are read through ranged
requests, so a model of a terabyte costs a few megabytes. Everything is bounded: each answer, all of them, and the time.
"""

import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from memcalc import __version__
from memcalc.blocks.stored import StoredTensors
from memcalc.errors import InputError, nearest, one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.files import MAX_CONFIG_BYTES, decoded, parse_json_object
from memcalc.readers.weights import (
    INDEX,
    MAX_INDEX_BYTES,
    check_complete,
    choose,
    choose_tower,
    index_of,
    quantization,
    read_index,
    read_sources,
    shard_names,
    with_tower,
)
from memcalc.readers.weights.model import WeightFiles, joined
from memcalc.readers.weights.source import OpenFile

TIMEOUT = 10.0  # seconds without a byte
MOST_SECONDS = 300.0  # for everything
MOST_BYTES = 2**30  # of everything
LISTING_BYTES = 16 * 2**20
BUFFER = 2**20  # of one ranged request: most headers fit into it
_PART = r"[A-Za-z0-9_][\w.-]{0,95}"
_ADDRESS = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[\w.%-]{{1,200}}))?(?P<file>(?:/[^/\\]{{1,200}})*)", re.ASCII
)


class Repository:
    """One revision of a repository: the files it lists, and bounded reads of them."""

    def __init__(self, name: str, revision: str) -> None:
        session, headers, http_error, endpoint = _client()
        self.place = f"hf://{name}" + (f"@{revision}" if revision else "")
        self._session, self._headers, self._http_error = session, headers, http_error
        self._left, self._until = MOST_BYTES, time.monotonic() + MOST_SECONDS
        listing_url = f"{endpoint}/api/models/{name}/revision/{quote(revision or 'main', safe='')}?blobs=true"
        listing = parse_json_object(decoded(self._get(listing_url, LISTING_BYTES, "its list of files"), self.place), self.place)
        commit = listing.get("sha")
        commit = commit if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{7,64}", commit) else revision or "main"
        self._base = f"{endpoint}/{name}/resolve/{quote(commit, safe='')}"
        self.sizes = _sizes(listing.get("siblings"), self.place)

    def text(self, name: str, limit: int) -> str:
        """A small text file."""
        return decoded(self._get(self._url(name), limit, name), f"{self.place}/{name}", limit)

    @contextmanager
    def opened(self, name: str) -> Iterator[OpenFile]:
        """A weight file whose bytes are fetched as they are read."""
        raw = cast(io.RawIOBase, _Remote(self, name))
        yield OpenFile(cast(BinaryIO, io.BufferedReader(raw, BUFFER)), self.sizes[name], f"{self.place}/{name}")

    def range(self, name: str, start: int, length: int) -> bytes:
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        return self._get(self._url(name), length, name, wanted, skip=start)

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name)}"

    def _get(self, url: str, limit: int, what: str, headers: Mapping[str, str] | None = None, skip: int = 0) -> bytes:
        """At most `limit` bytes of an answer; `skip`: those of a ranged request, which the server must have heeded."""
        try:
            with self._session.stream(
                "GET", url, headers={**self._headers, **(headers or {})}, timeout=TIMEOUT, follow_redirects=True
            ) as answer:
                self._check(answer.status_code, what, ranged=bool(skip))
                return self._received(answer.iter_raw(), limit, what, whole=headers is None)
        except (self._http_error, OSError, UnicodeError) as error:  # UnicodeError: the host's name has a label of 64 letters
            raise InputError(
                f"{what} could not be fetched ({one_line(str(error), 200) or type(error).__name__})", place=self.place
            ) from None

    def _check(self, status: int, what: str, *, ranged: bool) -> None:
        if status in (401, 403):
            raise InputError(
                f"{what}: access refused ({status}); log in with a token that may read it (HF_TOKEN)", place=self.place
            )
        if status == 404:
            raise InputError(f"{what}: no such repository, revision or file", place=self.place)
        if status == 200 and ranged:
            raise InputError(f"{what}: the server sends whole files only, not parts of them", place=self.place)
        if status not in (200, 206):
            raise InputError(f"{what}: the server answered {status}", place=self.place)

    def _received(self, chunks: Iterator[bytes], limit: int, what: str, *, whole: bool) -> bytes:
        data = bytearray()
        for chunk in chunks:
            data += chunk
            self._left -= len(chunk)
            if self._left < 0 or time.monotonic() > self._until:
                raise InputError(
                    f"{what}: more than {MOST_BYTES // 2**20} MiB or {MOST_SECONDS:.0f} s needed", place=self.place
                )
            if len(data) > limit and whole:
                raise InputError(f"{what} is larger than {limit // 2**20} MiB, which no such file needs", place=self.place)
            if len(data) >= limit and not whole:
                break
        return bytes(data[:limit])


class _Remote(io.RawIOBase):
    """A remote file as Python's buffered readers want it."""

    def __init__(self, repository: Repository, name: str) -> None:
        self._repository, self._name, self._size, self._at = repository, name, repository.sizes[name], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        data = self._repository.range(self._name, self._at, length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def read_repository(address: str) -> WeightFiles:
    """The model at org/name[@revision][/file]."""
    found = _ADDRESS.fullmatch(address)
    if not found or ".." in address:
        raise InputError(
            f"hf://{one_line(address, 100)} is not hf://org/name, hf://org/name@revision or either with /file.gguf"
        )
    repository = Repository(found["repository"], found["revision"] or "")
    name, title = found["file"].lstrip("/"), found["repository"].rpartition("/")[2]
    if name and name not in repository.sizes:
        raise InputError(f"holds no file {one_line(name, 100)}{nearest(name, repository.sizes)}", place=repository.place)
    values: dict[str, Any] = {}
    if "config.json" in repository.sizes and not name.endswith(".gguf"):
        values = parse_json_object(repository.text("config.json", MAX_CONFIG_BYTES), f"{repository.place}/config.json")
    towers = None
    if not name:
        top = [each for each in repository.sizes if "/" not in each]
        name = choose(top, repository.place) or ""
        towers = choose_tower(top, name)
    if not name and not values:
        raise InputError("holds neither a config.json nor safetensors or GGUF files", place=repository.place)
    if not name:
        from memcalc.readers.hf import read_config

        return WeightFiles(title, None, read_config(values, repository.place), None)
    stored = _stored(repository, name, quantization(values))
    if towers:
        stored = with_tower(stored, _stored(repository, towers, {}))
    return joined(stored, values, repository.place, title)


def _stored(repository: Repository, name: str, packing: Mapping[str, Any]) -> StoredTensors:
    def read(names: Sequence[str]) -> StoredTensors:
        return read_sources(names, repository.opened, packing)

    index = name if name.endswith(INDEX) else index_of(name)
    if index in repository.sizes:
        place = f"{repository.place}/{index}"
        values = parse_json_object(repository.text(index, MAX_INDEX_BYTES), place)
        return read_index(values, place, repository.sizes.__contains__, read)
    shards = shard_names(name)
    check_complete(shards, repository.sizes.__contains__, f"{repository.place}/{name}")
    return read(shards)


def _sizes(siblings: Any, place: str) -> dict[str, int]:
    """File → size in bytes, as a repository lists them."""
    if not isinstance(siblings, list):
        raise InputError("its list of files cannot be read", place=place)
    sizes = {}
    for entry in siblings:
        name, size = (entry.get("rfilename"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and type(size) is int and size >= 0:
            sizes[name] = size
    return sizes


class Client(NamedTuple):
    """What huggingface_hub brings: an HTTP session, headers with the user's token, the session's error, the server."""

    session: Any
    headers: dict[str, str]
    error: type[Exception]
    endpoint: str


def _client() -> Client:
    try:
        from huggingface_hub import constants, get_token
        from huggingface_hub.errors import HTTPError
        from huggingface_hub.utils import get_session
    except ImportError:
        raise InputError("needs the package huggingface_hub: pip install 'memcalc[hub]'", place="hf://") from None
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    if not re.fullmatch(r"https?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(/[\w./-]*)?", endpoint):
        raise InputError(f"{one_line(endpoint, 80)} is no http address", place="HF_ENDPOINT")
    # bytes as they are stored: a range of a compressed answer would mean nothing
    headers = {"User-Agent": f"memcalc/{__version__}", "Accept-Encoding": "identity"}
    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    return Client(get_session(), headers, HTTPError, endpoint)
