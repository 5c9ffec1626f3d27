"""Makes the golden models: small random checkpoints of every runnable family with what transformers computes from them.

    python tests/golden/make_models.py [FAMILY ...]

Each family becomes tests/golden/models/FAMILY with
  config.json         in the keys of released checkpoints
  model.safetensors   weights in bf16, under the names of released checkpoints
  golden.safetensors  per prompt p and layer l, from an eager f32 forward pass over the same (bf16) weights:
      p.tokens [S], p.hidden.0 [S,D] (embedded), p.hidden.l (after block l, counted from 1), p.router.l.logits [S,E],
      .experts [S,K] ascending, .weights [S,K] in that order, p.logits [S,V]
  An encoder-decoder has p.source beside p.tokens (the decoder's), and p.encoder.hidden.l, p.encoder.router.l.*,
  p.encoder.output.
The versions of torch and transformers stand in the metadata of golden.safetensors. Weights are drawn so that
activations stay near 1 and the expert chosen last is at least MARGIN apart from the next one in every token.
"""

import json
import os
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
PROMPTS = (1, 6, 21)
MARGIN = 3e-4
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1}

COMMON = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
          "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": False, "rms_norm_eps": 1e-5}
DEEPSEEK = COMMON | {
    "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 2,
    "num_experts_per_tok": 3, "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6, "rope_theta": 10000, "attention_bias": False}
LATENT = {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10}

CONFIGS = {
    "mixtral": COMMON | {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_key_value_heads": 2,
        "intermediate_size": 24, "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1000000.0,
        "sliding_window": 7},
    "olmoe": COMMON | {
        "model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "num_key_value_heads": 4,
        "intermediate_size": 16, "num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": False,
        "clip_qkv": None, "attention_bias": False, "rope_theta": 10000.0},
    "qwen2_moe": COMMON | {
        "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "num_key_value_heads": 2,
        "intermediate_size": 48, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": 8,
        "num_experts_per_tok": 3, "norm_topk_prob": False, "decoder_sparse_step": 2, "mlp_only_layers": [],
        "rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 3},
    "qwen3_moe": COMMON | {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 48, "moe_intermediate_size": 16, "num_experts": 8, "num_experts_per_tok": 2,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [1], "attention_bias": False,
        "rope_theta": 1000000.0, "sliding_window": None, "use_sliding_window": False,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    "deepseek": DEEPSEEK | {
        "model_type": "deepseek", "architectures": ["DeepseekForCausalLM"], "scoring_func": "softmax",
        "norm_topk_prob": False},
    "deepseek_v2": DEEPSEEK | LATENT | {
        "model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "scoring_func": "softmax",
        "norm_topk_prob": False, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
        "routed_scaling_factor": 1.5, "q_lora_rank": None,
        "rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
    "deepseek_v3": DEEPSEEK | LATENT | {
        "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "scoring_func": "sigmoid",
        "norm_topk_prob": True, "topk_method": "noaux_tc", "n_group": 4, "topk_group": 2, "n_shared_experts": 1,
        "routed_scaling_factor": 2.5, "q_lora_rank": 20, "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "gpt_oss": COMMON | {
        "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "num_hidden_layers": 4,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 16, "num_local_experts": 8,
        "num_experts_per_tok": 3, "attention_bias": True, "sliding_window": 5, "swiglu_limit": 1.5,
        "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
                                               "beta_slow": 1.0, "truncate": False,
                                               "original_max_position_embeddings": 16},
        "layer_types": ["sliding_attention", "full_attention"] * 2, "max_position_embeddings": 512},
    "granitemoe": COMMON | {
        "model_type": "granitemoe", "architectures": ["GraniteMoeForCausalLM"], "num_key_value_heads": 2,
        "intermediate_size": 16, "num_local_experts": 8, "num_experts_per_tok": 3, "tie_word_embeddings": True,
        "attention_bias": False, "rope_theta": 10000.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
        "residual_multiplier": 0.6, "logits_scaling": 2.0, "rms_norm_eps": 1e-6},
    "phimoe": COMMON | {
        "model_type": "phimoe", "architectures": ["PhiMoEForCausalLM"], "num_key_value_heads": 2,
        "intermediate_size": 16, "num_local_experts": 8, "num_experts_per_tok": 2, "attention_bias": True,
        "lm_head_bias": True, "rope_theta": 10000.0, "sliding_window": 64, "max_position_embeddings": 128,
        "original_max_position_embeddings": 32, "router_jitter_noise": 0.01, "input_jitter_noise": 0.0,
        "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 32,
                         "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [1.0, 2.0, 5.0, 9.0],
                         "short_mscale": 1.2, "long_mscale": 1.3}},
    "glm4_moe": COMMON | {
        "model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"], "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 1,
        "num_experts_per_tok": 3, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
        "routed_scaling_factor": 2.5, "attention_bias": True, "use_qk_norm": True, "partial_rotary_factor": 0.5,
        "rope_theta": 1000000},
    "solar_open": COMMON | {
        "model_type": "solar_open", "architectures": ["SolarOpenForCausalLM"], "num_key_value_heads": 2, "head_dim": 12,
        "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3,
        "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.5, "attention_bias": False,
        "rope_theta": 1000000, "rope_scaling": YARN},
    "dbrx": {
        "model_type": "dbrx", "architectures": ["DbrxForCausalLM"], "d_model": 32, "n_heads": 4, "n_layers": 3,
        "max_seq_len": 64, "vocab_size": 96, "tie_word_embeddings": False,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.5, "rope_theta": 500000},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 8, "moe_top_k": 3,
                       "moe_normalize_expert_weights": 1.0, "ffn_act_fn": {"name": "silu"}, "hidden_size": 32}},
    "switch_transformers": {
        "model_type": "switch_transformers", "architectures": ["SwitchTransformersForConditionalGeneration"],
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 24, "num_layers": 4, "num_decoder_layers": 4,
        "num_heads": 4, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2, "num_experts": 8,
        "num_selected_experts": 1, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
        "dense_act_fn": "relu", "router_bias": False, "expert_capacity": 64, "tie_word_embeddings": True,
        "layer_norm_epsilon": 1e-6, "decoder_start_token_id": 0, "pad_token_id": 0},
    "nllb-moe": {
        "model_type": "nllb-moe", "architectures": ["NllbMoeForConditionalGeneration"], "vocab_size": 96,
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_experts": 8, "encoder_sparse_step": 2,
        "decoder_sparse_step": 2, "expert_capacity": 64, "router_bias": False, "second_expert_policy": "all",
        "normalize_router_prob_before_dropping": False, "batch_prioritized_routing": False,
        "moe_eval_capacity_token_fraction": 1.0, "moe_token_dropout": 0.2, "max_position_embeddings": 64,
        "activation_function": "relu", "scale_embedding": True, "tie_word_embeddings": True, "pad_token_id": 1,
        "decoder_start_token_id": 2},
}


# The same two families as they are released, with most matrices in 4 and 8 bits.
CONFIGS["gpt_oss_mxfp4"] = CONFIGS["gpt_oss"] | {
    "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "intermediate_size": 32,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}
CONFIGS["deepseek_v3_fp8"] = CONFIGS["deepseek_v3"] | {
    "num_hidden_layers": 2, "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}}
F4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def quantise_mxfp4(tensors):
    """Experts in groups of 32 inputs with one power of two; returns what the groups stand for under the plain names."""
    plain = {}
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        weights = tensors.pop(name).float().transpose(1, 2).unflatten(-1, (-1, 32))  # [E, out, groups, 32]
        exponents = (weights.abs().amax(-1) / 6).log2().ceil()
        scaled = weights / exponents.exp2().unsqueeze(-1)
        codes = (scaled.unsqueeze(-1) - F4).abs().argmin(-1)
        plain[name] = (F4[codes] * exponents.exp2().unsqueeze(-1)).flatten(-2).transpose(1, 2).contiguous()
        tensors[name + "_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        tensors[name + "_scales"] = (exponents + 127).to(torch.uint8)
    return plain


def quantise_fp8(tensors):
    """Matrices of layers but the gate in E4M3 with one factor for each block of 128 x 128: here one for each matrix."""
    plain = {}
    for name in [n for n in tensors if ".layers." in n and n.endswith("proj.weight") or "_proj_with_mqa.weight" in n]:
        weights = tensors[name].float()
        factor = weights.abs().max() / 448
        tensors[name] = (weights / factor).to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = factor.reshape(1, 1)
        plain[name] = tensors[name].float() * factor
    return plain


def reload(model, tensors):
    """The model with these weights in f32."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        save_file({n: t.float().contiguous() for n, t in tensors.items()}, os.path.join(folder, "model.safetensors"),
                  metadata={"format": "pt"})
        return type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def make_deepseek(config):
    """DeepSeekMoE-16B has no class in transformers: Llama's blocks with DeepSeek-V2's mixture (softmax, greedy)."""
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

    config = dict(config, model_type="llama")
    llama = transformers.LlamaConfig(**config)
    model = transformers.LlamaForCausalLM(llama)
    moe = transformers.DeepseekV2Config(**dict(config, model_type="deepseek_v2", topk_method="greedy", n_group=1,
                                               topk_group=1, routed_scaling_factor=1.0))
    for layer in model.model.layers[config["first_k_dense_replace"]:]:
        layer.mlp = DeepseekV2Moe(moe)
    return model


def nllb_experts(self, hidden, router_mask, router_probs):
    """Every expert with a weight computes, as fairseq and transformers 4 did; version 5 misreads the mask here."""
    out = torch.zeros_like(hidden)
    for index in range(self.num_experts):
        tokens = torch.where(router_probs[:, index] != 0)[0]
        if len(tokens):
            out[tokens] += self[f"expert_{index}"](hidden[tokens]) * router_probs[tokens, index, None]
    return out * (1 - self.moe_token_dropout)


def make_model(family):
    config = {key: value for key, value in CONFIGS[family].items() if key != "quantization_config"}
    if family == "deepseek":
        model = make_deepseek(config)
    else:
        more = {}
        if family == "dbrx":  # transformers 5 no longer reads attn_config.rope_theta
            more["rope_parameters"] = {"rope_type": "default", "rope_theta": config["attn_config"]["rope_theta"]}
        model_config = transformers.AutoConfig.for_model(**config, **more)
        auto = transformers.AutoModelForSeq2SeqLM if "encoder_layers" in config or "d_kv" in config \
            else transformers.AutoModelForCausalLM
        model = auto.from_config(model_config)
    if family == "nllb-moe":
        from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeExperts
        NllbMoeExperts.forward = nllb_experts
    model.set_attn_implementation("eager")
    return model.float().eval()


def is_router(name):
    return name.endswith(("gate.weight", "router.weight", "router.layer.weight", "classifier.weight")) \
        and "shared_expert_gate" not in name and "mlp.gate_proj" not in name


def draw(name, shape, generator):
    normal = torch.randn(shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        return 0.1 * normal
    if "norm" in name and name.endswith("weight") and len(shape) == 1:
        return 1 + 0.2 * normal
    if name.endswith("sinks"):
        return normal
    if "relative_attention_bias" in name:
        return normal
    if len(shape) == 1 or name.endswith("bias"):
        return 0.3 * normal
    if "embed" in name or "shared.weight" in name or "wte" in name:
        return 0.8 * normal
    return (2.5 if is_router(name) else 1.0) * normal / shape[-1] ** 0.5


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for name in sorted(state):
        if state[name].is_floating_point():
            value = draw(name, state[name].shape, generator)
            keeps = name.endswith("e_score_correction_bias")
            state[name].copy_(value if keeps else value.bfloat16().float())
    model.tie_weights()


def scores_of(router, logits):
    """What the router selects by."""
    kind = type(router).__name__
    if kind.startswith(("DeepseekV3", "Glm4", "SolarOpen")):
        return logits.sigmoid() + router.e_score_correction_bias
    return logits.softmax(-1)


def gap(scores, chosen):
    """How far the chosen stand above the rest, at least."""
    worst = scores.masked_fill(~chosen, float("inf")).min(-1).values
    best = scores.masked_fill(chosen, -float("inf")).max(-1).values
    return (worst - best).min().item()


def margin_of(router, scores, chosen):
    groups = getattr(router, "num_group", None) or 1
    if groups == 1:
        return gap(scores, chosen)
    members = scores.unflatten(-1, (groups, -1))
    both = members.topk(2, -1).values.sum(-1)
    totals = both if type(router).__name__.startswith("DeepseekV3") else members.max(-1).values
    kept = torch.zeros_like(totals, dtype=torch.bool).scatter(-1, totals.topk(router.topk_group, -1).indices, True)
    inside = members.masked_fill(~kept.unsqueeze(-1), -float("inf")).flatten(-2)
    return min(gap(totals, kept), gap(inside, chosen))


class Recorder:
    """Collects hidden states and routings while the model runs."""

    def __init__(self):
        self.tensors, self.prefix, self.margin = {}, "", float("inf")

    def hidden(self, place, index):
        def hook(module, inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            self.tensors[f"{self.prefix}{place}hidden.{index}"] = value[0]
        return hook

    def routing(self, place, index, router, logits, weights, experts):
        order = experts.argsort(-1)
        base = f"{self.prefix}{place}router.{index}."
        self.tensors[base + "logits"] = logits
        self.tensors[base + "experts"] = experts.gather(-1, order).to(torch.int32)
        self.tensors[base + "weights"] = weights.gather(-1, order)
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, experts, True)
        self.margin = min(self.margin, margin_of(router, scores_of(router, logits), chosen))

    def router(self, place, index):
        def hook(module, inputs, output):
            kind = type(module).__name__
            if kind.startswith("Switch"):
                mask, probs, logits = output
                self.routing(place, index, module, logits[0], probs[0], mask[0].argmax(-1, keepdim=True))
            elif kind.startswith("Nllb"):
                _, probs, logits = output
                weights, experts = (probs * self.kept_share).topk(2, -1)
                self.routing(place, index, module, logits, weights, experts)
            elif kind == "DbrxRouter":
                weights, experts = self.dbrx.route_tokens_to_experts(output)
                self.routing(place, index, module, output, weights, experts)
            else:
                logits, weights, experts = output
                self.routing(place, index, module, logits, weights, experts)
        return hook


def blocks_of(model):
    base = getattr(model, "model", None) or getattr(model, "transformer", None) or model
    if hasattr(base, "encoder"):
        stacks = [("encoder.", base.encoder), ("", base.decoder)]
    else:
        stacks = [("", base)]
    for place, stack in stacks:
        for name in ("layers", "blocks", "block"):
            if hasattr(stack, name):
                yield place, getattr(stack, name)


def attach(model, recorder):
    for place, blocks in blocks_of(model):
        for index, block in enumerate(blocks):
            if index == 0:
                block.register_forward_pre_hook(
                    lambda module, args, kwargs, place=place: recorder.hidden(place, 0)(
                        module, args, args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
            block.register_forward_hook(recorder.hidden(place, index + 1))
            for module in block.modules():
                kind = type(module).__name__
                if kind == "DbrxFFN":
                    recorder.dbrx = module
                if "Router" in kind:
                    module.register_forward_hook(recorder.router(place, index + 1))


def run_prompts(model, config, seed):
    recorder = Recorder()
    recorder.kept_share = 1 - config.get("moe_token_dropout", 0)  # of an expert's output, as in nllb_experts
    attach(model, recorder)
    generator = torch.Generator().manual_seed(seed + 1000)
    for index, length in enumerate(PROMPTS):
        recorder.prefix = f"{index}."
        tokens = torch.randint(3, 96, (1, length), generator=generator)
        inputs = {"input_ids": tokens}
        if model.config.is_encoder_decoder:
            source = torch.randint(3, 96, (1, length + 4), generator=generator)
            inputs = {"input_ids": source, "decoder_input_ids": tokens}
            recorder.tensors[f"{index}.source"] = source[0].to(torch.int32)
        recorder.tensors[f"{index}.tokens"] = tokens[0].to(torch.int32)
        with torch.no_grad():
            output = model(**inputs, use_cache=False)
        recorder.tensors[f"{index}.logits"] = output.logits[0]
        if model.config.is_encoder_decoder:
            recorder.tensors[f"{index}.encoder.output"] = output.encoder_last_hidden_state[0]
    return recorder


def split_experts(tensors):
    """Stacked experts under the names of DeepSeekMoE-16B, which holds each matrix by itself."""
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        stack, base = tensors.pop(name), name.rsplit(".", 1)[0]
        for index, matrix in enumerate(stack):
            if name.endswith("down_proj"):
                tensors[f"{base}.{index}.down_proj.weight"] = matrix.contiguous()
            else:
                gate, up = matrix.chunk(2)
                tensors[f"{base}.{index}.gate_proj.weight"] = gate.contiguous()
                tensors[f"{base}.{index}.up_proj.weight"] = up.contiguous()


def released_tensors(model, family):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = load_file(os.path.join(folder, "model.safetensors"))
    if family == "deepseek":
        split_experts(tensors)
    keeps = "e_score_correction_bias"
    return {name: value if name.endswith(keeps) else value.bfloat16() for name, value in tensors.items()}


def release(model, family):
    """The tensors of the checkpoint, and the model that has just their values."""
    tensors = released_tensors(model, family)
    quantise = {"gpt_oss_mxfp4": quantise_mxfp4, "deepseek_v3_fp8": quantise_fp8}.get(family)
    if not quantise:
        return model, tensors
    before = dict(tensors)
    return reload(model, before | quantise(tensors)), tensors


def write_tokenizer(folder):
    """A token for each printable ASCII character, the space and the line's end, spelt as byte-level vocabularies do."""
    characters = [chr(code) for code in range(0x21, 0x7F)] + ["\u0120", "\u010a"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {character: index for index, character in enumerate(characters)}, "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)


def make_family(family):
    config = CONFIGS[family]
    for seed in range(1, 200):
        model = make_model(family)
        randomise(model, seed)
        model, tensors = release(model, family)
        recorder = run_prompts(model, config, seed)
        if recorder.margin > MARGIN and all(v.isfinite().all() for v in recorder.tensors.values()):
            break
    else:
        sys.exit(f"{family}: no seed keeps the experts {MARGIN} apart")
    folder = os.path.join(FOLDER, family)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")
    if family == "mixtral":
        write_tokenizer(folder)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "seed": str(seed)}
    golden = {name: value.contiguous().clone() for name, value in recorder.tensors.items()}
    save_file(golden, os.path.join(folder, "golden.safetensors"), metadata=versions)
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o644)
    print(f"{family}: seed {seed}, margin {recorder.margin:.4f}, "
          f"largest logit {max(v.abs().max().item() for k, v in golden.items() if k.endswith('.logits')):.1f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or sorted(CONFIGS):
        make_family(name)
