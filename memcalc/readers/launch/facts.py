"""The one table of what launch files say, in our own words: every reader's keys lead here, settings are made from here."""

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.nodes import Entry
from memcalc.readers.launch.values import Read


class FactRow(NamedTuple):
    """How a fact is read (memcalc.readers.launch.values) and what it is."""

    kind: str
    meaning: str


def _rows(kind: str, **meanings: str) -> dict[str, FactRow]:
    return {name: FactRow(kind, meaning) for name, meaning in meanings.items()}


FACTS: dict[str, FactRow] = {
    # --- what is run ---
    **_rows("text", model="model as the file gives it", model_component="torchtune's builder: model, size and method",
            model_file="a weight file", hf_checkpoint="the Hugging Face folder beside a Megatron model",
            script="the program that is launched", command="the sub-command", deepspeed_file="a DeepSpeed JSON named by a file",
            accelerate_file="an accelerate YAML named by a file", config_file="a further file named by a file",
            image="container image", recipe="a recipe that holds the other settings",
            reward_model="model that scores answers", critic_model="value model", reference_model="reference model",
            draft="draft model of speculative decoding"),
    **_rows("word", head_task="what a head in place of the language model's is for",
            algorithm="sft, pt, dpo, kto, orpo, grpo, ppo, rm …",
            advantage_estimator="of reinforcement learning",
            algorithm_cli="OpenRLHF's program", manifest_kind="of a Kubernetes object", instance_type="of a cloud",
            gpu="accelerator that the file names", engine="serving engine", engine_version="of it", backend="of the engine"),
    # --- devices ---
    **_rows("count", gpus="all devices", processes="devices of the whole job", gpus_per_node="devices of a node", nodes="nodes",
            visible_gpus="devices that CUDA_VISIBLE_DEVICES names", gpus_in_pod="devices of a pod",
            servers_in_file="servers that the file holds", models_in_file="models that the file serves",
            replicas="copies: of data parallelism (training) or of pods (serving)"),
    # --- batch ---
    **_rows("count", micro_batch="sequences a device and pass", grad_accum="passes a step",
            passes_on_way="of them at a time, in stages", global_batch="sequences a step",
            seq_len="tokens a sequence", train_batch="prompts a rollout step (verl); sequences a step",
            mini_batch="prompts an optimizer step", rollout_batch="prompts a rollout step",
            micro_rollout_batch="sequences of a forward-only pass", log_prob_micro_batch="the same, verl's",
            prompt_len="prompt tokens at most", response_len="generated tokens at most", n_samples="answers a prompt",
            max_tokens_per_gpu="tokens of a packed micro-batch", eval_batch="sequences a device in evaluation",
            image_tokens="of an image", labels="of a classifier"),
    **_rows("flag", dynamic_batch="micro-batches are filled by tokens", packing="rows are packed",
            padding_free="no padding tokens", remove_padding="no padding tokens",
            batch_search="the batch is searched for when it runs"),
    # --- states ---
    **_rows("word", precision="bf16, fp16, fp32, auto, no …, as stated", model_dtype="weights are loaded so",
            reduce_dtype="gradients are reduced so", fp8="Megatron's fp8 format", fp4="Megatron's fp4 format",
            optimizer="as written, or ours", optimizer_impl="fused, foreach, for-loop", method="full, lora, qlora, dora …",
            base_format="of frozen matrices", expert_adapters="beside routed experts",
            quantization="weight format in serving",
            grad_accum_dtype="gradients are accumulated so", main_grads_dtype="Megatron's", main_params_dtype="Megatron's",
            exp_avg_dtype="Megatron's", exp_avg_sq_dtype="Megatron's", dtype="of weights in serving"),
    **_rows("count", lora_rank="of adapters", quantization_bit="of the frozen base"),
    **_rows("share", lora_dropout="of adapters", max_grad_norm="to which gradients are clipped",
            offload_fraction="of the optimizer's states"),
    **_rows("words", lora_targets="matrices with adapters", modules_to_save="further modules that are trained",
            offload="what is kept off the device", freeze="what is not trained"),
    **_rows("flag", double_quant="scales are quantised too", dora="adapters with a magnitude",
            optimizer_in_backward="steps in the backward", grad_accum_fp32="gradients are accumulated in fp32",
            precision_aware_optimizer="Megatron's", optimizer_cpu_offload="Megatron's", param_offload="verl's",
            optimizer_offload="verl's", grad_offload="verl's", ref_param_offload="verl's", adam_offload="OpenRLHF's",
            offload_model="ms-swift's", offload_optimizer="ms-swift's", activation_offloading="of saved activations",
            freeze_vit="the vision tower is not trained",
            fake_quantised="weights pass a fake quantiser", ema="a moving average of weights"),
    **_rows("word", offload_to="where"),
    # --- sharding ---
    **_rows("word", strategy="zero-0..3, fsdp1, fsdp2, ddp …", fsdp="full, grad-op, hybrid, none",
            sharding="FSDP1's strategy as written", pipeline_schedule="as written", cp_kind="as written",
            virtual_layout="Megatron's pipeline layout"),
    **_rows("count", zero_stage="of ZeRO", shard_size="ranks that share the states; -1: all that are left", tp="tensor "
            "parallel",
            pp="pipeline parallel", cp="context parallel", ep="expert parallel", etp="tensor parallel inside experts",
            dp="data parallel", virtual_stage_layers="layers of a virtual stage", virtual_stages="of a pipeline rank",
            first_stage_layers="of a pipeline", last_stage_layers="of a pipeline", reduce_bucket="elements",
            allgather_bucket="elements", prefetch_bucket="elements", persistence_threshold="elements",
            max_live_parameters="elements", sub_group_size="elements", hpz_partition="ranks of ZeRO++'s second copy"),
    **_rows("flag", sequence_parallel="norms are divided too", tp_overlap="beside products",
            reshard_after_forward="FSDP2", distributed_optimizer="Megatron's", megatron_fsdp="Megatron's",
            overlap_comm="a second bucket", count_embedding="as a layer of the first stage",
            count_loss="as a layer of the last stage", use_mbridge="verl's"),
    **_rows("text", sp="sequence parallelism as the tool spells it"),
    # --- activations ---
    **_rows("word", recompute="none, selective, full", recompute_method="Megatron's", recompute_option="torchtitan's",
            attention="as written, or ours", loss="as written, or ours", kernels="as written, or ours"),
    **_rows("count", recompute_layers="of recompute_method"),
    **_rows("words", recompute_modules="Megatron's", converters="torchtitan's"),
    **_rows("flag", compile="torch.compile", fused_kernels="verl's", flash="FlashAttention", te="Transformer Engine"),
    # --- a model in numbers (Megatron-LM, nanotron) ---
    **_rows("count", layers="of the model", hidden="width", ffn="width of the MLP", heads="of attention",
            kv_heads="of keys and values", head_dim="of a head", vocab="vocabulary", experts="routed", topk="experts a token",
            expert_ffn="width of an expert", shared_ffn="width of shared experts", positions="at most",
            vocab_multiple="to which the vocabulary is padded", q_lora="rank of latent queries", kv_lora="rank of latent keys",
            mtp="layers that predict further tokens", moe_frequency="every n-th layer has experts"),
    **_rows("flag", swiglu="gated MLP", untied="head of its own", tied="head and embedding are one", grouped_gemm="of experts",
            gqa="grouped queries", rmsnorm="RMSNorm in place of LayerNorm", mla="latent attention", no_bias="of linears"),
    **_rows("word", position="kind of position embedding", normalization="kind of norm"),
    # --- reinforcement learning ---
    **_rows("word", reference="none, frozen, precomputed", rollout_engine="of generation", vllm_mode="colocate or server"),
    **_rows("count", rollout_tp="of generation", rollout_gpus="of generation", rollout_gpus_per_engine="of generation",
            vllm_engines="of generation", actor_gpus_per_node="OpenRLHF's", actor_nodes="OpenRLHF's",
            ref_gpus_per_node="OpenRLHF's", ref_nodes="OpenRLHF's", critic_gpus_per_node="OpenRLHF's",
            critic_nodes="OpenRLHF's", reward_gpus_per_node="OpenRLHF's", reward_nodes="OpenRLHF's", sleep_level="vLLM's"),
    **_rows("share", beta="weight of the reference", kl_coef="weight of the reference"),
    **_rows("flag", use_vllm="generates with vLLM", kl_loss="of the reference", vllm_sleep="vLLM sleeps while training",
            ds_sleep="DeepSpeed sleeps while generating", colocate="one set of devices for all",
            colocate_all="one set of devices for all", free_cache="the cache is freed while training"),
    # --- serving ---
    **_rows("count", context="tokens a sequence may reach", max_batched_tokens="of a pass", max_sequences="of a step",
            max_batch="TensorRT-LLM's sequences of a step", block_size="of the cache", sequences="llama.cpp's slots",
            gpu_layers="llama.cpp's", ubatch="llama.cpp's", batch_tokens="llama.cpp's", cpu_moe_layers="llama.cpp's",
            chunked_prefill="SGLang's tokens of a pass", cuda_graph_max_bs="SGLang's largest graph",
            max_graph_size="vLLM's largest graph", draft_tokens="guessed in a step", lora_adapters="served beside the model",
            max_total_tokens="of the cache", cache_blocks="of the cache", images="that a prompt may have",
            videos="that a prompt may have",
            redundant_experts="held once more"),
    **_rows("share", gpu_memory_utilization="vLLM's share of the device", mem_fraction_static="SGLang's share",
            kv_free_fraction="TensorRT-LLM's share of what is free", cpu_offload_gb="GiB of weights in host memory",
            kv_cache_memory="bytes of the cache", cache_offload_gb="GB of host memory for the cache, of all ranks",
            cache_offload_rank_gb="GB of host memory for the cache, of a rank",
            cache_offload_bytes="bytes of host memory for the cache, of a rank",
            transfer_buffer="bytes of buffers for a cache"),
    **_rows("word", draft_method="how a draft guesses", role="prefill or decode alone",
            all_to_all="whose buffers experts' tokens pass", deepep_mode="SGLang's: auto, normal, low_latency",
            kv_dtype="of the cache",
            kv_dtype_k="of keys", kv_dtype_v="of values", load_format="of weights"),
    **_rows("flag", expert_parallel="experts over all ranks", eager="without CUDA graphs", dp_attention="SGLang's, TRT-LLM's",
            prefix_caching="of common beginnings", speculative="a draft of some kind",
            sharded_adapters="LoRA slots are divided", language_model_only="without towers"),
    **_rows("text", pp_layers="layers of each stage"),
    **_rows("text", override_tensor="llama.cpp's placement", tensor_split="llama.cpp's shares of devices"),
    **_rows("word", split_mode="llama.cpp's: layer, row, none", backward_prefetch="FSDP1's: pre, post, none"),
    **_rows("flag", cache_on_host="llama.cpp's", unified="llama.cpp's one pool for all slots",
            upcast_norms="norms are kept in fp32"),
    **_rows("count", train_layers="the last layers that are trained alone"),
}  # fmt: skip


class Fact(NamedTuple):
    """A fact of one launch, and where it is from: an entry of a file, or `why` (a tool's default, or how it follows)."""

    value: Read
    entry: Entry | None = None
    why: str = ""

    @property
    def place(self) -> str:
        return self.entry.place if self.entry else self.why


Facts = dict[str, Fact]
