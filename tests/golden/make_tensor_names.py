#!/usr/bin/env python3
"""Writes tensor_names.json: the configuration, tensor names and shapes of a tiny random model of each family that runs, as
transformers 5.23.0 with torch saves it. Usage: make_tensor_names.py tensor_names.json"""

import json
import struct
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

common = dict(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24)
latent = dict(kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=4, n_shared_experts=1,
              num_experts_per_tok=2, moe_intermediate_size=12, first_k_dense_replace=1, n_group=2, topk_group=1, num_key_value_heads=4)
families = {
    "mixtral": dict(common, num_local_experts=4),
    "olmoe": dict(common, num_experts=4, num_experts_per_tok=2),
    "qwen2_moe": dict(common, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=20, decoder_sparse_step=2),
    "qwen3_moe": dict(common, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, head_dim=6, mlp_only_layers=[0]),
    "deepseek_v2": {**common, **latent, "q_lora_rank": None, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {**common, **latent, "q_lora_rank": 10, "num_mtp_layers": 0},
    "glm4_moe": dict(common, head_dim=6, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=12,
                     first_k_dense_replace=1, attention_bias=True, use_qk_norm=True, num_mtp_layers=0),
    "gpt_oss": dict(common, num_local_experts=4, num_experts_per_tok=2, head_dim=6),
    "granitemoe": dict(common, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False),
    "phimoe": dict(common, num_local_experts=4, attention_bias=True, lm_head_bias=True),
    "dbrx": dict(vocab_size=32, d_model=16, n_heads=4, n_layers=2, attn_config=dict(kv_n_heads=2, clip_qkv=8.0, rope_theta=10000.0),
                 ffn_config=dict(ffn_hidden_size=12, moe_num_experts=4, moe_top_k=2, hidden_size=16)),
    "switch_transformers": dict(vocab_size=32, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=4, num_experts=4,
                                num_sparse_encoder_layers=1, num_sparse_decoder_layers=1),
    "nllb-moe": dict(vocab_size=32, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=20, num_experts=4,
                     encoder_attention_heads=4, decoder_attention_heads=4, encoder_sparse_step=2, decoder_sparse_step=2, max_position_embeddings=64),
}


def header(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size))


def saved(model_type, settings):
    torch.manual_seed(1)
    config = AutoConfig.for_model(model_type, **settings)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = kind.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            tensors.update({name: entry["shape"] for name, entry in header(path).items() if name != "__metadata__"})
        written = json.loads((Path(folder) / "config.json").read_text())
    return {"config": written, "tensors": dict(sorted(tensors.items()))}


def main():
    result = {"about": f"transformers {transformers.__version__}, tests/golden/make_tensor_names.py", "families": {}}
    for model_type, settings in families.items():
        try:
            result["families"][model_type] = saved(model_type, settings)
        except Exception as error:  # a family that this version cannot make is left out, by name
            print(f"{model_type}: {type(error).__name__}: {error}", file=sys.stderr)
    Path(sys.argv[1]).write_text(json.dumps(result, indent=0) + "\n")


main()
