#!/usr/bin/env bash
MODEL=${MODEL:-Qwen/Qwen2.5-7B}
GPUS=8
GLOBAL=256
BS=4
ACC=$(( GLOBAL / (BS * GPUS) ))

torchrun --nproc_per_node=$GPUS train_lm.py \
  --model_name_or_path "$MODEL" \
  --bf16 --per_device_train_batch_size $BS --gradient_accumulation_steps $ACC \
  --block_size 4096 --gradient_checkpointing True \
  --optim adamw_torch_fused --attn_implementation flash_attention_2 \
  --deepspeed ds_zero3.json --learning_rate 1e-5 --num_train_epochs 2
