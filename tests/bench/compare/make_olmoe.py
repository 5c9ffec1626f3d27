#!/usr/bin/env python3
"""Makes a random mixture of OLMoE's shape twice, with the same weights in bf16: for moegauge and for llama.cpp.

    python make_olmoe.py FOLDER     FOLDER/config.json and FOLDER/model.safetensors; FOLDER/model.gguf

8 layers of width 1024, 16 heads, 64 experts of width 512, top-8, vocabulary 50304: 942 million parameters, 186 million of
which a token uses without the embedding table. Matrices are normal with deviation 1 / sqrt(columns), so that activations
stay near 1; norms are ones. Neither file has a vocabulary: speed is measured on token ids.
"""
import json
import os
import sys

import gguf
import torch
from safetensors.torch import save_file

SEED, LAYERS, WIDTH, HEADS, EXPERTS, CHOICES, HIDDEN, VOCABULARY, CONTEXT = 1, 8, 1024, 16, 64, 8, 512, 50304, 4096
EPSILON, ROPE_BASE = 1e-5, 10000.0

CONFIG = {
    "model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "vocab_size": VOCABULARY, "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
    "intermediate_size": HIDDEN, "num_experts": EXPERTS, "num_experts_per_tok": CHOICES, "norm_topk_prob": False,
    "max_position_embeddings": CONTEXT, "hidden_act": "silu", "tie_word_embeddings": False, "rms_norm_eps": EPSILON,
    "rope_theta": ROPE_BASE, "clip_qkv": None, "attention_bias": False,
}

ATTENTION = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm"}


def matrix(generator, *shape):
    return (torch.randn(*shape, generator=generator) / shape[-1] ** 0.5).to(torch.bfloat16)


def weights(generator):
    """Pairs of names and tensors, as OLMoE's safetensors and as its GGUF files have them."""
    released, converted = {}, {}

    def both(name, other, tensor):
        released[name] = converted[other] = tensor

    both("model.embed_tokens.weight", "token_embd.weight", matrix(generator, VOCABULARY, WIDTH))
    for layer in range(LAYERS):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        for name, other in NORMS.items():
            both(f"{ours}.{name}.weight", f"{theirs}.{other}.weight", torch.ones(WIDTH, dtype=torch.bfloat16))
        for name, other in ATTENTION.items():
            both(f"{ours}.self_attn.{name}.weight", f"{theirs}.{other}.weight", matrix(generator, WIDTH, WIDTH))
        both(f"{ours}.mlp.gate.weight", f"{theirs}.ffn_gate_inp.weight", matrix(generator, EXPERTS, WIDTH))
        for part, shape in {"gate": (HIDDEN, WIDTH), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}.items():
            stack = matrix(generator, EXPERTS, *shape)
            converted[f"{theirs}.ffn_{part}_exps.weight"] = stack
            for expert in range(EXPERTS):
                released[f"{ours}.mlp.experts.{expert}.{part}_proj.weight"] = stack[expert].clone()
    both("model.norm.weight", "output_norm.weight", torch.ones(WIDTH, dtype=torch.bfloat16))
    both("lm_head.weight", "output.weight", matrix(generator, VOCABULARY, WIDTH))
    return released, converted


def write_gguf(path, tensors):
    writer = gguf.GGUFWriter(path, "olmoe")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(CHOICES)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    for name, tensor in tensors.items():
        if tensor.dim() == 1 or "gate_inp" in name:  # these stay f32 in GGUF files
            writer.add_tensor(name, tensor.float().numpy())
        else:
            writer.add_tensor(name, tensor.view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_olmoe.py FOLDER")
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    released, converted = weights(torch.Generator().manual_seed(SEED))
    save_file(released, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_gguf(os.path.join(folder, "model.gguf"), converted)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=2)


main()
