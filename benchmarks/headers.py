"""How long the headers of a sharded safetensors set take: `python benchmarks/headers.py [SHARDS [TENSORS-A-SHARD]]`."""

import json
import struct
import sys
import tempfile
import time
from pathlib import Path

from memcalc.readers.weights import read_weights

ELEMENTS = 32


def write_shard(path: Path, names: list[str]) -> None:
    entries = {
        name: {"dtype": "F8_E4M3", "shape": [4, 8], "data_offsets": [ELEMENTS * i, ELEMENTS * (i + 1)]}
        for i, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(ELEMENTS * len(names)))


def main(shards: int = 200, each: int = 60) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, weight_map = Path(name), {}
        for i in range(shards):
            shard = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            names = [f"model.layers.{i}.mlp.experts.{j}.up_proj.weight" for j in range(each)]
            write_shard(folder / shard, names)
            weight_map |= dict.fromkeys(names, shard)
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": ELEMENTS * shards * each}, "weight_map": weight_map}))
        took = []
        for _ in range(5):
            start = time.process_time()
            stored = read_weights(str(index))
            took.append(time.process_time() - start)
    tensors, best, worst = len(stored.tensors), min(took), max(took)
    print(f"{shards} shards, {tensors:,} tensors: {best:.2f} s at best of {len(took)}, {worst:.2f} s at worst")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
