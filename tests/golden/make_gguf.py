"""Makes the golden GGUF files: small random models of the architectures that llama.cpp and moegauge both run, converted by
llama.cpp's own converter, with the logits that transformers computes from the same weights.

    python tests/golden/make_gguf.py LLAMA_CPP [NAME ...]

LLAMA_CPP is a folder with llama.cpp's sources (its `conversion` and `gguf-py`). Each name becomes tests/golden/gguf/NAME.gguf
and NAME.safetensors: per prompt p the tokens p.tokens [S] and p.logits [S,V] of an eager f32 pass; its metadata have the
versions. Weights are bf16, but for olmoe_q8_0 (Q8_0, F16 where rows fit no block) and gpt_oss (experts in MXFP4).

A configuration differs from that of make_models.py where llama.cpp or the format has no place for what it says: every block a
mixture, no window in Mixtral, the limit of gpt-oss's experts a constant, Phi's factors of attention those of the converter.
"""

import json
import math
import os
import sys
import tempfile

import torch
import transformers
from safetensors.torch import save_file

import make_models
from make_models import CONFIGS, MARGIN, draw, make_model, randomise, reload, released_tensors, run_prompts, write_tokenizer

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
TWO = {"num_hidden_layers": 2}
PHI_FACTOR = math.sqrt(1 + math.log(128 / 32) / math.log(32))

# name: (family of make_models.py, what its configuration says otherwise)
FILES = {
    "llama": ("mixtral", TWO | {"sliding_window": None}),
    "olmoe": ("olmoe", TWO),
    "olmoe_q8_0": ("olmoe", TWO),
    "qwen2moe": ("qwen2_moe", TWO | {"decoder_sparse_step": 1}),
    "qwen3moe": ("qwen3_moe", TWO | {"mlp_only_layers": []}),
    "deepseek": ("deepseek", TWO),
    "deepseek2": ("deepseek_v2", TWO),
    "deepseek2_v3": ("deepseek_v3", TWO),
    "gpt_oss": ("gpt_oss_mxfp4", {"swiglu_limit": 7.0}),
    "granitemoe": ("granitemoe", TWO),
    "phimoe": ("phimoe", TWO | {"rope_scaling": CONFIGS["phimoe"]["rope_scaling"] | {
        "short_mscale": PHI_FACTOR, "long_mscale": PHI_FACTOR}}),
    "glm4moe": ("glm4_moe", TWO | {"num_nextn_predict_layers": 1}),
    "dbrx": ("dbrx", {"n_layers": 2}),
}


def next_token_block(tensors, config):
    """A few tensors of a block that predicts a further token, which transformers drops and llama.cpp keeps."""
    width, generator = config["hidden_size"], torch.Generator().manual_seed(1)
    base = f"model.layers.{config['num_hidden_layers']}."
    for name, shape in (("eh_proj", (width, 2 * width)), ("enorm", (width,)), ("hnorm", (width,)),
                        ("input_layernorm", (width,))):
        tensors[f"{base}{name}.weight"] = draw(name + ".weight", shape, generator).bfloat16()


def as_q8_0(tensors, gguf):
    """The values that the converter's Q8_0 and F16 keep, which both keep again when they convert them once more."""
    for name, tensor in tensors.items():
        if tensor.dim() < 2 or make_models.is_router(name):
            continue
        if tensor.shape[-1] % 32:
            tensors[name] = tensor.half().float()
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        stored = gguf.quants.quantize(tensor.float().numpy(), kind)
        tensors[name] = torch.from_numpy(gguf.quants.dequantize(stored, kind).copy())


def release(name, model, family, config, gguf):
    """The tensors of the checkpoint that is converted, and the model that has just their values."""
    tensors = released_tensors(model, family)
    if family == "gpt_oss_mxfp4":
        before = dict(tensors)
        return reload(model, before | make_models.quantise_mxfp4(tensors)), tensors
    if name == "olmoe_q8_0":
        as_q8_0(tensors, gguf)
        return reload(model, tensors), tensors
    if config.get("num_nextn_predict_layers"):
        next_token_block(tensors, config)
    return model, tensors


def convert(folder, out, config, kind, conversion, gguf):
    from pathlib import Path

    cls = conversion.get_model_class(config["architectures"][0])
    converter = cls(Path(folder), kind, Path(out), eager=True, model_name="golden")
    converter.set_vocab = converter._set_vocab_gpt2  # all of them have the one tokenizer of make_models.py
    converter.get_vocab_base_pre = lambda tokenizer: "gpt-2"
    converter.write()


def make_file(name, conversion, gguf):
    family, changes = FILES[name]
    config = CONFIGS[family] | changes
    make_models.CONFIGS[family] = config
    for seed in range(1, 200):
        model = make_model(family)
        randomise(model, seed)
        model, tensors = release(name, model, family, config, gguf)
        recorder = run_prompts(model, config, seed)
        if recorder.margin > MARGIN:
            break
    else:
        sys.exit(f"{name}: no seed keeps the experts {MARGIN} apart")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
            json.dump({"tokenizer_class": "PreTrainedTokenizerFast"}, file)
        write_tokenizer(folder)
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        types = gguf.LlamaFileType
        convert(folder, os.path.join(FOLDER, name + ".gguf"), config,
                types.MOSTLY_Q8_0 if name == "olmoe_q8_0" else types.MOSTLY_BF16, conversion, gguf)
    expected = {key: value.contiguous().clone() for key, value in recorder.tensors.items()
                if key.endswith((".tokens", ".logits")) and ".router." not in key}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "gguf": gguf_version(),
                "seed": str(seed)}
    save_file(expected, os.path.join(FOLDER, name + ".safetensors"), metadata=versions)
    for end in (".gguf", ".safetensors"):
        os.chmod(os.path.join(FOLDER, name + end), 0o644)
    print(f"{name}: seed {seed}, margin {recorder.margin:.4f}")


def gguf_version():
    """That of the sources, whose package says it in pyproject.toml alone."""
    with open(os.path.join(sys.argv[1], "gguf-py", "pyproject.toml"), encoding="utf-8") as file:
        return next(line.split('"')[1] for line in file if line.startswith("version"))


def main():
    sys.path[:0] = [os.path.join(sys.argv[1], "gguf-py"), sys.argv[1]]
    import conversion
    import gguf

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    os.makedirs(FOLDER, exist_ok=True)
    for name in sys.argv[2:] or sorted(FILES):
        make_file(name, conversion, gguf)


if __name__ == "__main__":
    main()
