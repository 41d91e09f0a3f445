"""Defaults of the libraries that shard model states: bucket sizes, prefetch, alignment."""

from memcalc.frozen import NamedTuple


class Engine(NamedTuple):
    """How a training library behaves by default; a user's choice of engine changes numbers only through this row."""

    name: str
    kernels: str  # key of memcalc.autograd.profile.KERNELS
    loss: str
    optimizer_impl: str
    fp32_gradients: bool  # keeps a persistent fp32 main-gradient buffer under mixed precision
    note: str
    peft: bool = True  # adapters are PEFT's: fp32 whatever the precision; else they have the precision's own type
    holds_inputs: bool = False  # FSDP1 behind frozen weights: inputs of recomputed layers and their gradients stay
    prefetches: bool = True  # gathers the next layer during the backward of one; FSDP1 does not through a reentrant checkpoint
    traced: bool = True  # as traced on one device: PEFT's leaf outlives the step
    leaf: bool = False  # transformers' checkpointing makes the embedded tokens a leaf (enable_input_require_grads)
    kbit_prepare: str = "none"  # what its users' recipe casts to fp32 beside quantised matrices, a word of --kbit-prepare
    by_operation: bool = False  # selective recomputation keeps results by operation; else it recomputes attention's core
    gathers_logits: bool = False  # under tensor parallelism every rank has the logits of the whole vocabulary
    defers: bool = False  # gradients of a step's micro-batches stay whole until the last one (FSDP's no_sync)
    mixes_units: bool = False  # FSDP1's flat parameters hold adapters and the frozen weights of their layer (use_orig_params)
    trainer: bool = False  # around transformers: its Trainer reads models on the host and collects an evaluation's logits
    wide_outputs: bool = False  # mixed precision hands results out in fp32 (accelerate utils/operations.py)
    gathers_once: bool = False  # a pipeline stage gathers once and reduces once a step, however many micro-batches pass
    holds_graph: bool = False  # its loop holds the logits, and with them their graph, until the next forward is over
    unties: bool = False  # its models have a head of their own, where the config ties it to the embedding
    expert_adapters: str = "none"  # what LoRA puts beside routed experts, a word of --expert-adapters
    async_tp: bool = False  # has torch.compile pass tensor-parallel messages beside products, if asked to
    expandable: bool = False  # its launcher sets PYTORCH_ALLOC_CONF=expandable_segments:True


ENGINES: dict[str, Engine] = {
    row.name: row
    for row in (
        Engine("torch", "eager", "full", "fused", False, "PyTorch with Hugging Face modules; DDP and FSDP2", leaf=True,
               trainer=True),
        Engine(
            "accelerate", "eager", "full", "fused", False, "Hugging Face Trainer and accelerate; FSDP1",
            holds_inputs=True, prefetches=False, traced=False, leaf=True, defers=True, kbit_prepare="all",
            trainer=True, wide_outputs=True,
            gathers_logits=True,  # transformers/distributed/tensor_parallel.py, colwise_gather_output
        ),
        Engine(
            "deepspeed", "eager", "full", "fused", False, "DeepSpeed ZeRO around Hugging Face modules", leaf=True,
            trainer=True,
            gathers_logits=True,  # deepspeed/module_inject/layers.py, LmHeadLinearAllreduce
        ),
        Engine(
            "megatron", "te", "full", "fused", True, "Megatron-LM core: Transformer Engine layers, fp32 main gradients",
            peft=False,  # Megatron-Bridge peft/utils.py, ParallelLinearAdapter: linear layers of Megatron's own
            expert_adapters="shared",  # peft/lora.py: linear_fc1 and linear_fc2 of experts too, share_expert_adapters
        ),
        Engine(
            "torchtitan", "compiled", "full", "fused", False, "torchtitan: FSDP2 and torch.compile", by_operation=True,
            gathers_once=True,  # torchtitan/distributed/fsdp.py, get_fsdp_reshard_after_forward_policy
            expandable=True,  # run_train.sh, since October 2024
            async_tp=True,  # torchtitan/distributed/tensor_parallel.py, maybe_enable_async_tp; torch, _micro_pipeline_tp
        ),
        Engine(
            "torchtune", "eager", "chunked", "fused", False, "torchtune's recipes: adapters in bf16, FSDP2",
            peft=False, traced=False,
        ),
        Engine(
            "fsdp-qlora", "eager", "full", "fused", False, "fsdp_qlora: FSDP1 around PEFT, adapters in bf16",
            peft=False, trainer=True, holds_inputs=True, prefetches=False, traced=False,
        ),
        Engine(
            "litgpt", "litgpt", "listed", "fused", False, "LitGPT with Lightning Fabric: adapters in bf16",
            peft=False, traced=False, defers=True, mixes_units=True,
            holds_graph=True,  # litgpt/finetune/lora.py, fit: logits = model(…)
            unties=True,  # litgpt/model.py; scripts/convert_hf_checkpoint.py fills lm_head with the embedding
        ),
    )
}  # fmt: skip


class ZeroDefaults(NamedTuple):
    """DeepSpeed's zero_optimization defaults (deepspeed/runtime/zero/config.py), in elements."""

    reduce_bucket: int = 500_000_000
    prefetch_bucket: int = 50_000_000  # stage 3
    max_live: int = 1_000_000_000  # stage 3
    alignment: int = 2  # nccl_start_alignment_factor, deepspeed/runtime/zero/stage_1_and_2.py
    sub_group: int = 1_000_000_000  # stage 3
    buffers: tuple[int, ...] = (0, 1, 1, 1)  # contiguous gradients by stage; with overlap_comm stages 1 and 2 have two


DEEPSPEED = ZeroDefaults()
