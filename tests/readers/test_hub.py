"""hf:// over a server of our own: only headers are fetched, every answer is bounded, every failure is one line."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcalc.errors import InputError
from memcalc.readers import hub
from memcalc.readers.models import read_contents, read_model

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128,
    "vocab_size": 96, "tie_word_embeddings": True,
}  # fmt: skip
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(NamedTuple):
    folder: Path  # what the repository org/model holds
    asked: list[tuple[str, str | None]]  # (path, range) of every request
    behaviour: dict[str, Any]  # what it does wrong


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub of one repository. In `behaviour`: status, listing (bytes), ranges (False: it ignores them), short (True)."""
    pytest.importorskip("huggingface_hub")
    served = Server(tmp_path / "repository", [], {})
    served.folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append((self.path, wanted))
            status, body = self.answer(wanted)
            self.send_response(served.behaviour.get("status", status))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if served.behaviour.get("short") else body)

        def answer(self, wanted: str | None) -> tuple[int, bytes]:
            if re.fullmatch(r"/api/models/org/model/revision/(main|v1)\?blobs=true", self.path):
                files = [path for path in served.folder.rglob("*") if path.is_file()]
                names = [(str(path.relative_to(served.folder)), path.stat().st_size) for path in files]
                listing = {"sha": COMMIT, "siblings": [{"rfilename": name, "size": size} for name, size in names]}
                return 200, served.behaviour.get("listing", json.dumps(listing).encode())
            found = re.fullmatch(rf"/org/model/resolve/{COMMIT}/(.+)", self.path)
            path = served.folder / found[1] if found else served.folder / "nothing"
            if not path.is_file():
                return 404, b""
            data = path.read_bytes()
            if not wanted or served.behaviour.get("ranges") is False:
                return 200, data
            start, end = map(int, wanted.removeprefix("bytes=").split("-"))
            return 206, data[start : end + 1]

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.server_port}/")
    monkeypatch.setenv("HF_TOKEN", "secret")
    yield served
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def weights(server: Server, weight_files: Any) -> Callable[..., None]:
    """Put a llama of one layer into the repository, in so many shards."""

    def put(shards: int = 1, *, padding: int = 0) -> None:
        layer = "model.layers.0"
        attention = {f"{layer}.self_attn.{name}_proj.weight": ("BF16", (64, 64)) for name in "qkvo"}
        mlp = {f"{layer}.mlp.{name}_proj.weight": ("BF16", (128, 64)) for name in ("gate", "up")}
        norms = {
            f"{name}.weight": ("BF16", (64,))
            for name in (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm")
        }
        tensors = {**attention, **mlp, **norms, f"{layer}.mlp.down_proj.weight": ("BF16", (64, 128)),
                   "model.embed_tokens.weight": ("BF16", (96, 64))}  # fmt: skip
        (server.folder / "config.json").write_text(json.dumps(CONFIG))
        if shards == 1:
            weight_files.safetensors(server.folder / "model.safetensors", tensors, __metadata__={"padding": "x" * padding})
            return
        names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        parts = [dict(list(tensors.items())[i::shards]) for i in range(shards)]
        for name, part in zip(names, parts, strict=True):
            weight_files.safetensors(server.folder / name, part)
        index = {
            "metadata": {},
            "weight_map": {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part},
        }
        (server.folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return put


PARAMETERS = 96 * 64 + 4 * 64 * 64 + 3 * 128 * 64 + 3 * 64


@pytest.mark.parametrize("shards", [1, 4])
def test_a_repository_is_read_like_a_folder(server: Server, weights: Callable[..., None], shards: int) -> None:
    weights(shards)
    model = read_model("hf://org/model")
    assert (model.name, model.origin, model.parameters) == ("model", "hub", PARAMETERS)
    assert model.architecture
    assert not model.architecture.warnings
    assert model.stored
    assert (model.stored.bytes, len(model.stored.files)) == (2 * PARAMETERS, shards)


def test_only_the_header_is_fetched(server: Server, weights: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "BUFFER", 2048)
    weights(padding=5000)  # the header is longer than a buffer
    read_model("hf://org/model@v1")
    listing, config, *ranges = server.asked
    assert listing == ("/api/models/org/model/revision/v1?blobs=true", None)
    assert config == (f"/org/model/resolve/{COMMIT}/config.json", None)
    assert {path for path, _ in ranges} == {f"/org/model/resolve/{COMMIT}/model.safetensors"}
    spans = [tuple(map(int, (wanted or "").removeprefix("bytes=").split("-"))) for _, wanted in ranges]
    assert sum(end - start + 1 for start, end in spans) < 12_000 < 2 * PARAMETERS


def test_a_gguf_file_by_its_name(server: Server, weight_files: Any) -> None:
    for name in ("a-Q8_0.gguf", "a-Q4_K.gguf"):
        weight_files.gguf(server.folder / name, {"general.architecture": "unknown"}, {"blk.0.attn_q.weight": (8, (4, 32))})
    with pytest.raises(InputError, match=r"several weight files \(a-Q4_K\.gguf, a-Q8_0\.gguf\)"):
        read_contents("hf://org/model")
    stored = read_contents("hf://org/model/a-Q8_0.gguf").stored
    assert stored
    assert stored.bytes == 4 * 34
    with pytest.raises(InputError, match=r"holds no file a-Q8\.gguf; did you mean a-Q8_0\.gguf"):
        read_contents("hf://org/model/a-Q8.gguf")


def test_a_repository_with_nothing_but_a_config(server: Server) -> None:
    (server.folder / "config.json").write_text(json.dumps(CONFIG))
    (server.folder / "pytorch_model.bin").write_bytes(b"a pickle")
    model = read_model("hf://org/model")
    assert (model.parameters, model.stored) == (PARAMETERS, None)


def failing(address: str = "hf://org/model") -> str:
    with pytest.raises(InputError) as refusal:
        read_contents(address)
    assert str(refusal.value).isprintable()
    assert "secret" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"status": 401}, "access refused (401)"),
        ({"status": 403}, "access refused (403)"),
        ({"status": 404}, "no such repository"),
        ({"status": 500}, "the server answered 500"),
        ({"listing": b"<html>"}, "not JSON"),
        ({"listing": b"[]"}, "an object is needed"),
        ({"listing": b"{}"}, "its list of files cannot be read"),
        ({"listing": b'{"siblings": [{"rfilename": "model.safetensors", "size": -1}, 3]}'}, "holds neither"),
        ({"short": True}, "could not be fetched"),
    ],
)
def test_a_server_that_fails(server: Server, behaviour: dict[str, Any], message: str) -> None:
    server.behaviour.update(behaviour)
    assert message in failing()


def test_a_server_without_ranges(server: Server, weights: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "BUFFER", 512)
    weights(padding=5000)
    server.behaviour["ranges"] = False
    assert "sends whole files only" in failing()


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [("LISTING_BYTES", 10, "larger than"), ("MOST_BYTES", 10, "more than"), ("MOST_SECONDS", -1.0, "more than"),
     ("MAX_CONFIG_BYTES", 10, "larger than")],
)  # fmt: skip
def test_everything_is_bounded(
    server: Server, weights: Callable[..., None], monkeypatch: pytest.MonkeyPatch, limit: str, value: float, message: str
) -> None:
    weights()
    monkeypatch.setattr(hub, limit, value)
    assert message in failing()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "could not be fetched" in failing()


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1", "nowhere", "http://a b", "http://[::1"])
def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "is no http address" in failing()


@pytest.mark.parametrize(
    "address", ["", "gpt2", "a/b/../c", "../x", "a//b", "org/model@", "org/mo del", "org/model@a b", "@v1", "x" * 500]
)
def test_an_address_that_is_none(address: str) -> None:
    assert "is not hf://org/name" in failing(f"hf://{address}")


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'memcalc[hub]'" in failing()
