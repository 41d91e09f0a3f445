"""`swift infer` and `swift deploy` (ms-swift 3.9, swift/llm/argument/infer_args.py): an engine's options behind its name."""

from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.kinds.common import IDLE
from memcalc.readers.launch.kinds.sglang import SGLANG
from memcalc.readers.launch.kinds.vllm import VLLM
from memcalc.readers.launch.meanings import Coded, KeyTable, Unmodelled, alike
from memcalc.readers.launch.reading import Reading

WHY = "ms-swift's default"
ENGINES = {"vllm": VLLM, "sglang": SGLANG}  # each of whose options ms-swift names after it
BACKEND = {"vllm": "vllm", "sglang": "sglang", "pt": "transformers", "transformers": "transformers"}
KEYS: KeyTable = {
    **alike("model model_id_or_path", "model"),
    "infer_backend": Coded("engine", BACKEND),
    **{f"{name}_{key}": row for name, kind in ENGINES.items() for table in kind.keys for key, row in table.items()},
    "torch_dtype": "dtype", "max_batch_size": "max_batch", "attn_impl": "attention",
    "quant_bits": "quantization_bit", "quant_method": IDLE,
    **alike("adapters ckpt_dir", Unmodelled("adapters, and the model that their folder names")),
    "lmdeploy_*": Unmodelled("an engine that is not known"),
    **alike("task_type num_labels", Unmodelled("another head than the language model's", ("causal_lm", ""))),
    "max_pixels": Unmodelled("how large images may be"),
    "*": IDLE,
}  # fmt: skip


def _finish(out: Reading) -> None:
    out.default(WHY, engine="transformers")
    engine = str(out.facts["engine"].value) if "engine" in out.facts else ""  # LMDeploy is none that is known
    if engine in ENGINES:
        ENGINES[engine].finish(out)
    elif out.says("max_batch"):
        out.follow("max_sequences", out.facts["max_batch"].value, "max_batch")


SWIFT_SERVE = Kind("ms-swift-serve", "swift infer and deploy", (KEYS,), lambda _: False, _finish, "infer")
