"""Checks that other programs compute from what moegauge saves what moegauge computes.

    python tests/golden/compare_saved.py MOEGAUGE

MOEGAUGE is the program. Golden models (fused, transposed, in 4 and 8 bits), the golden GGUF files, and small models trained
here in the form of each family that form.lua asks are saved to a temporary folder. transformers then loads each folder, and
its ln p of every token of a text after those before it must be moegauge's in f32 within 1e-4; tokenizers must give the ids
that `moegauge model tokenize` gives. Written for transformers 5.23.0, tokenizers 0.23.3 and torch 2.15.0.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from tokenizers import Tokenizer

from make_models import FOLDER, write_tokenizer

GOLDEN = ["mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "deepseek_v3_fp8", "gpt_oss",
          "gpt_oss_mxfp4", "granitemoe", "phimoe", "glm4_moe", "dbrx"]
GGUF = ["llama", "olmoe", "olmoe_q8_0", "qwen2moe", "qwen3moe", "deepseek2", "deepseek2_v3", "gpt_oss", "granitemoe",
        "phimoe", "glm4moe", "dbrx"]
TRAINED = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "glm4_moe", "deepseek_v3"]
TEXT = "The router sends 64 tokens\nto 8 experts; it's their weights' sum that counts (1.5e-3)."
TOLERANCE = 1e-4
COUNT = 30  # tokens, one at a time: Phi's positions take other factors beyond 32, as reading all shows

SAVE = """local mg <const> = require "moegauge"
return mg.experiment { title = "save", sweep = { path = { %s } }, run = function(case)
  mg.load(case.path, { precision = "f32" }):save(case.path:gsub("%%.gguf$", "") .. "_saved")
  return { metrics = { saved = 1 } }
end }
"""

TRAIN = """local mg <const> = require "moegauge"
local topk <const>, one <const> = mg.router.topk { k = 2 }, mg.router.topk { k = 1, renormalise = false }
local chosen <const> = mg.router.deepseek { k = 2 }
local function moe(router, shared) return mg.moe { experts = 8, width = 32, router = router, shared = shared } end
local forms <const> = {
  mixtral = { heads = 4, kv_heads = 2, tie_embeddings = false, feed_forward = moe(topk) },
  qwen2_moe = { heads = 4, feed_forward = { mg.dense { width = 64 }, moe(one) } },
  qwen3_moe = { heads = 4, qk_norm = true, feed_forward = moe(topk) },
  olmoe = { attention = { heads = 4, qk_norm = "whole" }, feed_forward = moe(one) },
  granitemoe = { heads = 4, residual_scale = 0.5, embedding_scale = 2, feed_forward = moe(topk) },
  glm4_moe = { heads = 4, rotary = 8, feed_forward = { mg.dense { width = 64 }, moe(chosen, { experts = 1, width = 32 }) } },
  deepseek_v3 = { attention = { kind = "latent", heads = 4, query_rank = 24, kv_rank = 16, nope_width = 12, rope_width = 8,
    value_width = 16, rope = { interleaved = true } }, feed_forward = moe(chosen, { experts = 1, width = 32 }) },
}
return mg.experiment { title = "train", sweep = { form = { %s } }, run = function(case)
  local model = { layers = 2, width = 64, seed = 1, initial_deviation = 0.1 }
  for key, value in pairs(forms[case.form]) do model[key] = value end
  return mg.train { model = mg.model(model), data = mg.corpus { corpus = "%s", domain_bytes = 100000, vocabulary = 400 },
    tokens = 4096, batch = 4, sequence = 64, rate = 0.003, final_tokens = 512, timing_steps = 1, save = "trained/" .. case.form }
end }
"""


def run(*words, text=None):
    done = subprocess.run([PROGRAM, *words], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"moegauge {' '.join(words)}: {done.stderr}")
    return done.stdout


def quoted(values):
    return ", ".join(f'"{value}"' for value in values)


def change_config(folder, **values):
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config | values, file)


def save_all(folder):
    """Everything that is compared, as folders below `folder`: (name, folder)."""
    paths = []
    for name in GOLDEN:
        path = os.path.join(folder, "golden", name)
        shutil.copytree(os.path.join(FOLDER, name), path)
        write_tokenizer(path)
        if name == "dbrx":  # transformers 5 no longer reads attn_config.rope_theta
            change_config(path, rope_parameters={"rope_type": "default", "rope_theta": 500000})
        paths.append(path)
    for name in GGUF:
        path = os.path.join(folder, "gguf", name + ".gguf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(os.path.join(os.path.dirname(FOLDER), "gguf", name + ".gguf"), path)
        paths.append(path)
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(FOLDER))), "core")
    for name, script in (("save", SAVE % quoted(paths)), ("train", TRAIN % (quoted(TRAINED), source))):
        with open(name + ".lua", "w", encoding="utf-8") as file:
            file.write(script)
        run("run", name + ".lua", "--out", name)
    saved = [(os.path.relpath(path, folder), path.removesuffix(".gguf") + "_saved") for path in paths]
    return saved + [("trained/" + name, os.path.join(folder, "trained", name)) for name in TRAINED]


def our_sum(folder, limit):
    """-ln p of the text's first tokens but the first, read in one pass."""
    out = json.loads(run("model", "eval", folder, "--text", "text", "--limit", str(limit), "--precision", "f32", "--json"))
    return out["text"]["loss"] * (limit - 1)


def our_likelihoods(folder, count):
    sums = torch.tensor([our_sum(folder, limit) for limit in range(2, count + 1)], dtype=torch.float64)
    return sums.diff(prepend=torch.zeros(1, dtype=torch.float64))


def their_likelihoods(folder, ids):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    missing = [name for name in report["missing_keys"] if not empty(model, name)]
    if missing or report["unexpected_keys"] or report["mismatched_keys"]:
        sys.exit(f"{folder}: {missing[:3]} missing, {list(report['unexpected_keys'])[:3]} unexpected, {report['mismatched_keys']}")
    if model.config.model_type == "phimoe":
        take_long_factors(model.model.rotary_emb, len(ids))
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids]), use_cache=False).logits[0]
    likelihoods = logits.double().log_softmax(-1)
    return -likelihoods[:-1].gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)


def take_long_factors(rotary, length):
    """Phi's positions take their long factors beyond the original ones, as the class of Phi-3 has it; that of Phi-3.5-MoE in
    transformers 5.23 asks for the factors without saying how long the sequence is."""
    factors = rotary.rope_init_fn
    rotary.rope_init_fn = lambda config, *rest, **more: factors(config, seq_len=length)


def empty(model, name):
    """Qwen2-MoE has a shared expert even where its width is 0; what weighs its output of 0 decides nothing."""
    return "shared_expert" in name and getattr(model.config, "shared_expert_intermediate_size", 1) == 0


def compare(name, folder):
    ids = json.loads(run("model", "tokenize", folder, "--text", "text", "--json"))["ids"]
    theirs = Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(TEXT).ids
    if ids != theirs:
        sys.exit(f"{name}: the ids differ: {ids} {theirs}")
    count = min(len(ids), COUNT)
    worst = (our_likelihoods(folder, count) - their_likelihoods(folder, ids[:count])).abs().max().item()
    whole = abs(our_sum(folder, len(ids)) - their_likelihoods(folder, ids).sum().item()) / (len(ids) - 1)
    print(f"{name}: {len(ids)} ids equal, ln p of {count - 1} tokens within {worst:.1e}, mean of all within {whole:.1e}")
    return max(worst, whole) <= TOLERANCE


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv[1])
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.environ["MOEGAUGE_CACHE"] = os.path.join(work, "cache")
        with open("text", "w", encoding="utf-8") as out_file:
            out_file.write(TEXT)
        good = [compare(*entry) for entry in save_all(work)]
    if not all(good):
        sys.exit(f"{good.count(False)} of {len(good)} models differ by more than {TOLERANCE}")
