"""The table of optimizers: the states of each, and where it is read from."""

from memcalc.formulas.optimizer_states import Optimizer, State

MOMENTUM, VARIANCE = ADAM = (State("momentum"), State("variance"))
MOMENTUM_FP32, VARIANCE_FP32 = ADAM_FP32 = (State("momentum", format="fp32"), State("variance", format="fp32"))

# torch.optim keeps one fp32 0-d `step` per tensor: on the host, or on the device when fused or capturable.
STEP = State("step", "scalar", "fp32", place="host-unless-fused")
HOST_STEP = State("step", "scalar", "fp32", place="host")


def _factored(name: str, form: str = "parameter") -> tuple[State, State]:
    """A matrix kept as its row and column means."""
    return State(f"row {name}", "rows", form), State(f"column {name}", "columns", form)


def _quantised(names: tuple[str, ...], *, codes: str = "full", form: str = "uint8", block: int = 256) -> tuple[State, ...]:
    """Codes of each state, and the fp32 scales of their blocks."""
    scales = State("scales", "blocks", "fp32", block)
    return tuple(state for name in names for state in (State(name, codes, form), scales._replace(name=f"{name} scales")))


def _low_rank_adam(projector: str, moments: str, rank: int) -> tuple[State, State, State]:
    """A projector to the low rank, and Adam's moments there."""
    return (
        State("projector", projector, size=rank),
        State("momentum", moments, size=rank),
        State("variance", moments, size=rank),
    )


QUANTISED_ADAM = _quantised(("momentum", "variance"))
QUANTISED_ADEMAMIX = _quantised(("fast momentum", "slow momentum", "variance"))
ADEMAMIX_FP32 = (State("fast momentum", format="fp32"), State("slow momentum", format="fp32"), VARIANCE_FP32)


def _low_rank_8bit(rank: int) -> tuple[State, ...]:
    """Both of Adam's moments at a low rank, in blockwise 8 bit."""
    codes, scales = State("", "low-rank", "uint8", rank), State("", "low-rank-blocks", "fp32", rank)
    names = ("momentum", "variance")
    return tuple(state for name in names for state in (codes._replace(name=name), scales._replace(name=f"{name} scales")))


_ROWS = (
    Optimizer("sgd", "SGD without momentum", (), "torch.optim.SGD (momentum=0, its default)"),
    Optimizer("sgd-momentum", "SGD with momentum", (MOMENTUM,), "torch.optim.SGD (momentum>0)"),
    Optimizer("adam", "Adam", (*ADAM, STEP), "Kingma and Ba 2015, Algorithm 1; torch.optim.Adam"),
    Optimizer("adamw", "AdamW", (*ADAM, STEP), "Loshchilov and Hutter 2019, Algorithm 2; torch.optim.AdamW"),
    Optimizer(
        "adamw-bf16",
        "AdamW, both moments in bf16",
        (State("momentum", format="bf16"), State("variance", format="bf16")),
        "DeepSeek-AI 2024 (DeepSeek-V3), section 3.3; Megatron-Core --use-precision-aware-optimizer",
    ),
    Optimizer(
        "adamw-8bit",
        "AdamW, blockwise 8-bit states (bitsandbytes)",
        QUANTISED_ADAM,
        "Dettmers et al. 2022, section 2; bitsandbytes 0.50 optim/optimizer.py, Optimizer2State.init_state",
        "below 4096 values states stay fp32; the transformers Trainer keeps those of embeddings fp32 too",
        scope="4096 values or more",
        otherwise=ADAM_FP32,
    ),
    Optimizer(
        "paged-adamw",
        "AdamW, fp32 states in paged memory (bitsandbytes)",
        ADAM_FP32,
        "Dettmers et al. 2023 (QLoRA), section 3; bitsandbytes 0.50 optim/adamw.py, PagedAdamW",
        paged=True,
    ),
    Optimizer(
        "paged-adamw-8bit",
        "AdamW, blockwise 8-bit states in paged memory (bitsandbytes)",
        QUANTISED_ADAM,
        "Dettmers et al. 2023 (QLoRA), section 3; bitsandbytes 0.50 optim/adamw.py, PagedAdamW8bit",
        "as adamw-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=ADAM_FP32,
        paged=True,
    ),
    Optimizer(
        "adamw-8bit-torchao",
        "AdamW, blockwise 8-bit states (torchao)",
        (*QUANTISED_ADAM, State("lookup tables", "table", "fp32", 2 * 256)),
        "torchao 0.18 optim/subclass_8bit.py, OptimState8bit.zeros; optim/adam.py, _AdamBase._new_buffer",
        "other tensors keep states in the parameter's dtype; each quantised state carries its own lookup table",
        scope="4096 values or more, whole blocks of 256",
        otherwise=ADAM,
    ),
    Optimizer(
        "adamw-4bit",
        "AdamW, blockwise 4-bit states (torchao)",
        (*_quantised(("momentum", "variance"), codes="pairs", block=128), State("lookup tables", "table", "fp32", 2 * 16)),
        "Li et al. 2023; torchao 0.18 optim/subclass_4bit.py, OptimState4bit.zeros",
        "other tensors keep states in the parameter's dtype; each quantised state carries its own lookup table",
        scope="4096 values or more, whole blocks of 128",
        otherwise=ADAM,
    ),
    Optimizer(
        "adamw-fp8",
        "AdamW, blockwise fp8 states (torchao)",
        _quantised(("momentum", "variance"), form="fp8-e4m3"),
        "torchao 0.18 optim/subclass_fp8.py, OptimStateFp8.zeros",
        "other tensors keep states in the parameter's dtype",
        scope="4096 values or more, whole blocks of 256",
        otherwise=ADAM,
    ),
    Optimizer(
        "ademamix",
        "AdEMAMix: a fast and a slow momentum (bitsandbytes)",
        ADEMAMIX_FP32,
        "Pagliardini et al. 2025; bitsandbytes 0.50 optim/ademamix.py, AdEMAMix.init_state",
    ),
    Optimizer(
        "ademamix-8bit",
        "AdEMAMix, blockwise 8-bit states (bitsandbytes)",
        QUANTISED_ADEMAMIX,
        "bitsandbytes 0.50 optim/ademamix.py, AdEMAMix8bit.init_state",
        "below 4096 values states stay fp32",
        scope="4096 values or more",
        otherwise=ADEMAMIX_FP32,
    ),
    Optimizer(
        "paged-ademamix",
        "AdEMAMix, fp32 states in paged memory (bitsandbytes)",
        ADEMAMIX_FP32,
        "bitsandbytes 0.50 optim/ademamix.py, PagedAdEMAMix32bit",
        paged=True,
    ),
    Optimizer(
        "paged-ademamix-8bit",
        "AdEMAMix, blockwise 8-bit states in paged memory (bitsandbytes)",
        QUANTISED_ADEMAMIX,
        "bitsandbytes 0.50 optim/ademamix.py, PagedAdEMAMix8bit",
        "as ademamix-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=ADEMAMIX_FP32,
        paged=True,
    ),
    Optimizer(
        "adamw-anyprecision",
        "AdamW, fp32 moments beside 16-bit weights",
        ADAM_FP32,
        "torchdistx optimizers/anyprecision_optimizer.py; formats as transformers 5 trainer_optimizer.py sets them",
        "no Kahan summation, its default there",
    ),
    Optimizer(
        "stable-adamw",
        "StableAdamW, with Kahan summation of 16-bit weights",
        (*ADAM, State("Kahan compensation", "compensation"), State("ε²", "scalar"), State("mean square", "scalar", "fp32")),
        "Wortsman et al. 2023; torch-optimi 0.3 stableadamw.py, _init_state (kahan_sum=None: where weights are 16 bit)",
        "its update is divided by a root mean square over the whole tensor",
        elementwise=False,
    ),
    Optimizer(
        "grokadamw",
        "GrokAdamW: Adam over gradients with an amplified slow part",
        tuple(State(name, place="host") for name in ("momentum", "variance", "gradient average")),
        "grokadamw 0.1.2 grokadamw.py, _update_group",
        "the library keeps its states in host memory and brings those of one tensor at a time to the GPU",
    ),
    Optimizer(
        "prodigy",
        "Prodigy: Adam that estimates its step size",
        (*ADAM, State("first weights"), State("accumulated gradients")),
        "Mishchenko and Defazio 2024; prodigyopt 1.1 prodigy.py (slice_p=1, its default)",
        "its step size is one number for all tensors",
        elementwise=False,
    ),
    Optimizer(
        "lomo",
        "LOMO: SGD inside the backward, without states",
        (),
        "Lv et al. 2023; lomo-optim 0.1 lomo.py, fuse_update",
        in_backward=True,
    ),
    Optimizer(
        "adalomo",
        "AdaLOMO: factored variance, inside the backward",
        _factored("variance", "fp32"),
        "Lv et al. 2024; lomo-optim 0.1 adalomo.py",
        scope="matrices",
        otherwise=(VARIANCE_FP32,),
        elementwise=False,
        in_backward=True,
    ),
    Optimizer(
        "schedule-free-adamw",
        "Schedule-free AdamW",
        (State("base iterate"), VARIANCE),
        "Defazio et al. 2024; schedulefree 1.4 adamw_schedulefree.py",
    ),
    Optimizer(
        "schedule-free-radam",
        "Schedule-free RAdam",
        (State("base iterate"), VARIANCE),
        "Defazio et al. 2024; schedulefree 1.4 radam_schedulefree.py",
    ),
    Optimizer("schedule-free-sgd", "Schedule-free SGD", (State("base iterate"),), "schedulefree 1.4 sgd_schedulefree.py"),
    Optimizer("lion", "Lion", (MOMENTUM,), "Chen et al. 2023, Algorithm 2; lion-pytorch 0.2 lion_pytorch.py"),
    Optimizer(
        "lion-8bit",
        "Lion, blockwise 8-bit state (bitsandbytes)",
        _quantised(("momentum",)),
        "bitsandbytes 0.50 optim/optimizer.py, Optimizer1State.init_state",
        "below 4096 values the state stays fp32; the transformers Trainer keeps that of embeddings fp32 too",
        scope="4096 values or more",
        otherwise=(MOMENTUM_FP32,),
    ),
    Optimizer(
        "paged-lion-8bit",
        "Lion, blockwise 8-bit state in paged memory (bitsandbytes)",
        _quantised(("momentum",)),
        "bitsandbytes 0.50 optim/lion.py, PagedLion8bit",
        "as lion-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=(MOMENTUM_FP32,),
        paged=True,
    ),
    Optimizer(
        "paged-lion",
        "Lion, fp32 state in paged memory (bitsandbytes)",
        (MOMENTUM_FP32,),
        "bitsandbytes 0.50 optim/lion.py, PagedLion32bit",
        paged=True,
    ),
    Optimizer("lion-32bit", "Lion, fp32 state (bitsandbytes)", (MOMENTUM_FP32,), "bitsandbytes 0.50 optim/lion.py, Lion32bit"),
    Optimizer(
        "adagrad",
        "Adagrad",
        (State("sum of squares"), STEP),
        "Duchi et al. 2011; torch.optim.Adagrad",
        "allocated when constructed, not at the first step",
    ),
    Optimizer(
        "rmsprop",
        "RMSprop",
        (VARIANCE, STEP),
        "Hinton 2012, lecture 6e; torch.optim.RMSprop (momentum=0 and centered=False, its defaults)",
    ),
    Optimizer(
        "rmsprop-32bit",
        "RMSprop, fp32 state (bitsandbytes)",
        (VARIANCE_FP32,),
        "bitsandbytes 0.50 optim/rmsprop.py, RMSprop32bit",
    ),
    Optimizer(
        "rmsprop-8bit",
        "RMSprop, blockwise 8-bit state (bitsandbytes)",
        _quantised(("variance",)),
        "bitsandbytes 0.50 optim/rmsprop.py, RMSprop8bit; optimizer.py, Optimizer1State.init_state",
        "below 4096 values the state stays fp32",
        scope="4096 values or more",
        otherwise=(VARIANCE_FP32,),
    ),
    Optimizer(
        "sophia",
        "Sophia-G",
        (MOMENTUM, State("hessian diagonal"), STEP),
        "Liu et al. 2024; github.com/Liuhong99/Sophia sophia.py, SophiaG",
    ),
    Optimizer(
        "lamb",
        "LAMB",
        ADAM,
        "You et al. 2020, Algorithm 2; NVIDIA Apex optimizers/fused_lamb.py",
        "its trust ratio is a norm over the whole tensor",
        elementwise=False,
    ),
    Optimizer(
        "adafactor",
        "Adafactor without momentum",
        (*_factored("variance"), HOST_STEP),
        "Shazeer and Stern 2018, Algorithms 4 and 5; torch.optim.Adafactor (has no beta1)",
        scope="matrices",
        otherwise=(VARIANCE, HOST_STEP),
        elementwise=False,
    ),
    Optimizer(
        "adafactor-momentum",
        "Adafactor with momentum, fp32 states (transformers)",
        (MOMENTUM_FP32, *_factored("variance", "fp32"), State("weight RMS", "scalar", "fp32")),
        "Shazeer and Stern 2018; transformers 5 optimization.py, Adafactor (beta1 set; it is None by default)",
        scope="matrices",
        otherwise=(*ADAM_FP32, State("weight RMS", "scalar", "fp32")),
        elementwise=False,
    ),
    Optimizer(
        "came",
        "CAME: confidence-guided Adafactor, fp32 states",
        (MOMENTUM_FP32, *_factored("variance", "fp32"), *_factored("instability", "fp32"), State("weight RMS", "scalar")),
        "Luo et al. 2023; came-pytorch 0.1.3 CAME.py",
        scope="matrices",
        otherwise=(*ADAM_FP32, State("weight RMS", "scalar")),
        elementwise=False,
    ),
    Optimizer(
        "muon",
        "Muon for hidden matrices, AdamW for the rest",
        (MOMENTUM,),
        "Jordan et al. 2024; torch.optim.Muon and torch.optim.AdamW",
        "torch.optim.Muon refuses all but 2-D; stacked experts count as matrices, as in Keller Jordan's muon.py",
        scope="hidden matrices",
        otherwise=(*ADAM, STEP),
        elementwise=False,
    ),
    Optimizer(
        "adam-mini",
        "Adam-mini: one variance per output row",
        (MOMENTUM, State("variance", "rows")),
        "Zhang et al. 2025; adam-mini 1.1.1 adam_mini.py",
        "an upper bound: queries and keys have one per head. Norms have one. Biases are counted as norms",
        scope="matrices",
        otherwise=(MOMENTUM, State("variance", "scalar")),
        elementwise=False,
    ),
    Optimizer(
        "galore",
        "GaLore AdamW for hidden linear layers, AdamW for the rest",
        _low_rank_adam("svd-projector", "svd-low-rank", 128),
        "Zhao et al. 2024, Algorithm 2; galore-torch 1.0 adamw.py, galore_projector.py; rank: transformers 5 Trainer",
        "in fp32 the projector keeps the whole square SVD factor alive",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "galore-8bit",
        "GaLore AdamW for hidden linear layers, blockwise 8-bit states (bitsandbytes)",
        (State("projector", "svd-projector", size=128), *_low_rank_8bit(128)),
        "Zhao et al. 2024; galore-torch 1.0 adamw8bit.py; rank: transformers 5 Trainer",
        "other tensors have 8-bit states of their own shape; the few below 4096 values are counted so too",
        scope="hidden linear layers",
        otherwise=QUANTISED_ADAM,
        elementwise=False,
    ),
    Optimizer(
        "galore-adafactor",
        "GaLore Adafactor for hidden linear layers, Adafactor for the rest, fp32 states",
        (State("projector", "svd-square", "fp32"), State("row and column variance", "svd-factors", "fp32", 128)),
        "galore-torch 1.0 adafactor.py, galore_projector.py; rank: transformers 5 Trainer",
        "the gradient is projected in fp32, so that the projector keeps the whole square SVD factor alive",
        scope="hidden linear layers",
        otherwise=_factored("variance", "fp32"),
        elementwise=False,
    ),
    Optimizer(
        "q-galore",
        "Q-GaLore for hidden linear layers: 4-bit projectors in bytes, blockwise 8-bit states",
        (
            State("projector", "projector", "uint8", 256),
            State("projector scales and zeros", "projector-groups", size=256),
            *_low_rank_8bit(256),
        ),
        "Zhang et al. 2024; q-galore-torch 1.0 q_galore_projector.py, q_galore_adamw8bit.py (rank 256, groups of 256)",
        "its INT8 weights are a model of their own, which is not modelled here: weights keep the precision's format",
        scope="hidden linear layers",
        otherwise=QUANTISED_ADAM,
        elementwise=False,
    ),
    Optimizer(
        "dion",
        "Dion for hidden matrices, AdamW for the rest",
        (MOMENTUM, State("right factor", "svd-square")),
        "Ahn et al. 2025; github.com/microsoft/dion dion/dion.py (rank_fraction=1, its default)",
        "the factor is n × r of an m × n matrix that is transposed where m < n; r = min(m, n)",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "apollo",
        "APOLLO for hidden linear layers, AdamW for the rest",
        (*_low_rank_adam("projector", "low-rank", 128), State("update norm", "scalar")),
        "Zhu et al. 2025; apollo-torch 1.0.3 apollo.py, random_projector.py; rank: transformers 5 Trainer",
        "the paper redraws the projection from its seed; the library keeps the matrix",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "apollo-mini",
        "APOLLO-Mini (rank 1) for hidden linear layers, AdamW for the rest",
        (*_low_rank_adam("projector", "low-rank", 1), State("update norm", "scalar")),
        "Zhu et al. 2025; apollo-torch 1.0.3 apollo.py (rank=1, scale_type='tensor')",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "shampoo",
        "Distributed Shampoo with Adam grafting",
        (
            MOMENTUM,
            State("grafting variance"),
            State("Kronecker factors", "block-squares", "fp32", 1024),
            State("inverse roots", "block-squares", "fp32", 1024),
        ),
        "Shi et al. 2023; github.com/facebookresearch/optimizers distributed_shampoo.py (max_preconditioner_dim=1024)",
        "preconditions vectors too; grafting is what its README advises to AdamW users, its default is none",
        elementwise=False,
    ),
    Optimizer(
        "soap",
        "SOAP: Adam in Shampoo's eigenbasis",
        (*ADAM, State("Kronecker factors", "squares", "fp32", 10_000), State("eigenvectors", "squares", "fp32", 10_000)),
        "Vyas et al. 2025; github.com/nikhilvyas/SOAP soap.py (max_precond_dim=10000, precondition_1d=False)",
        "dimensions above 10 000 and vectors have no preconditioner",
        scope="matrices",
        otherwise=ADAM,
        elementwise=False,
    ),
)

OPTIMIZERS: dict[str, Optimizer] = {row.name: row for row in _ROWS}
