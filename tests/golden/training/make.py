#!/usr/bin/env python3
"""Makes steps.safetensors: a few steps of training as PyTorch computes them in float64.

One block with a dense feed-forward and one with a mixture of four experts (the two best of a softmax, weights
renormalised; balance and z loss), tied embeddings. A step has three batches of one sequence each, clips the norm of the
summed gradient and applies torch.optim.AdamW, with decay on matrices alone, under a warm-up and a cosine. The text of
the one training document is three sequences long, so every step sees it whole, whatever the order.

start.NAME and end.NAME are the parameters before and after, first.NAME and second.NAME the moments after; loss, norm
(before clipping) and rate hold one number a step. The texts are in the metadata. tests/unit/test_train_golden.c compares.

    python3 -m pip install torch==2.15.0 safetensors==0.8.0 numpy==2.4.6
    python3 make.py
"""
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

TRAIN = "of two gates the wider one is the slower to turn"
VALID = "even load keeps every expert busy, odd load not."
SEQUENCE, BATCHES, STEPS = 16, 3, 8
WIDTH, HEADS, HIDDEN, EXPERTS, CHOICES, VOCABULARY = 16, 2, 8, 4, 2, 256
RATE, WARMUP, FINAL, CLIP, DECAY, BETA1, BETA2, EPSILON = 0.02, 0.3, 0.1, 0.8, 0.1, 0.9, 0.95, 1e-8
BALANCE, Z = 0.05, 0.02


def shapes():
    yield "embedding.weight", (VOCABULARY, WIDTH)
    for layer in range(2):
        at = f"layers.{layer}."
        yield at + "attention_norm.scale", (WIDTH,)
        for name in ("query", "key", "value", "output"):
            yield at + f"attention.{name}.weight", (WIDTH, WIDTH)
        yield at + "feed_norm.scale", (WIDTH,)
        if layer == 0:
            yield at + "feed_forward.gate.weight", (HIDDEN, WIDTH)
            yield at + "feed_forward.up.weight", (HIDDEN, WIDTH)
            yield at + "feed_forward.down.weight", (WIDTH, HIDDEN)
        else:
            yield at + "feed_forward.router.gate", (EXPERTS, WIDTH)
            yield at + "feed_forward.experts.gate", (EXPERTS, HIDDEN, WIDTH)
            yield at + "feed_forward.experts.up", (EXPERTS, HIDDEN, WIDTH)
            yield at + "feed_forward.experts.down", (EXPERTS, WIDTH, HIDDEN)
    yield "final_norm.scale", (WIDTH,)


def start():
    """Rounded to f32, as the file holds them."""
    generator = torch.Generator().manual_seed(3)
    made = {}
    for name, shape in shapes():
        drawn = torch.randn(shape, generator=generator)
        made[name] = 1 + 0.1 * drawn if name.endswith("scale") else 0.2 * drawn
    return made


def norm(x, scale):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * scale


def rotate(x):
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def attention(parameters, at, x):
    q, k, v = (
        (x @ parameters[f"{at}attention.{name}.weight"].T).view(len(x), HEADS, -1).transpose(0, 1)
        for name in ("query", "key", "value")
    )
    out = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
    return out.transpose(0, 1).reshape(len(x), WIDTH) @ parameters[f"{at}attention.output.weight"].T


def mixture(parameters, at, x):
    logits = x @ parameters[at + "router.gate"].T
    probabilities = logits.softmax(-1)
    weights, chosen = probabilities.topk(CHOICES)
    weights = weights / weights.sum(-1, keepdim=True)
    out = torch.zeros_like(x)
    for expert in range(EXPERTS):
        token, place = (chosen == expert).nonzero(as_tuple=True)
        rows = x[token]
        gate = F.silu(rows @ parameters[at + "experts.gate"][expert].T)
        y = (gate * (rows @ parameters[at + "experts.up"][expert].T)) @ parameters[at + "experts.down"][expert].T
        out = out.index_add(0, token, weights[token, place, None] * y)
    share = torch.bincount(chosen.flatten(), minlength=EXPERTS) * EXPERTS / chosen.numel()
    return out, (share * probabilities.mean(0)).sum(), (logits.logsumexp(-1) ** 2).mean()


def batch_losses(parameters, tokens, targets):
    x = parameters["embedding.weight"][tokens]
    for layer in range(2):
        at = f"layers.{layer}."
        x = x + attention(parameters, at, norm(x, parameters[at + "attention_norm.scale"]))
        seen, inside = norm(x, parameters[at + "feed_norm.scale"]), at + "feed_forward."
        if layer == 0:
            gate, up, down = (parameters[f"{inside}{name}.weight"] for name in ("gate", "up", "down"))
            x = x + (F.silu(seen @ gate.T) * (seen @ up.T)) @ down.T
        else:
            out, balance, z = mixture(parameters, inside, seen)
            x = x + out
    logits = norm(x, parameters["final_norm.scale"]) @ parameters["embedding.weight"].T
    return F.cross_entropy(logits, targets, ignore_index=-1), balance, z


def rate_of(step):
    warm = math.ceil(WARMUP * STEPS)
    if step <= warm:
        return RATE * step / warm
    left = 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
    return RATE * (FINAL + (1 - FINAL) * left)


def main():
    made = start()
    parameters = {name: torch.nn.Parameter(value.double()) for name, value in made.items()}
    plain = [p for name, p in parameters.items() if name.endswith("scale")]
    decayed = [p for name, p in parameters.items() if not name.endswith("scale")]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON)
    text = list(TRAIN.encode())
    assert len(text) == len(VALID.encode()) == BATCHES * SEQUENCE
    tokens = torch.tensor(text).view(BATCHES, SEQUENCE)
    targets = torch.tensor(text[1:] + [-1]).view(BATCHES, SEQUENCE)
    record = {"loss": [], "norm": [], "rate": []}
    for step in range(1, STEPS + 1):
        optimiser.zero_grad()
        losses = [batch_losses(parameters, tokens[i], targets[i]) for i in range(BATCHES)]
        total = sum(loss + BALANCE * balance + Z * z for loss, balance, z in losses) / BATCHES
        total.backward()
        size = torch.nn.utils.get_total_norm([p.grad for p in parameters.values()]).item()
        for p in parameters.values():
            p.grad *= min(1.0, CLIP / size)
        for group in optimiser.param_groups:
            group["lr"] = rate_of(step)
        optimiser.step()
        record["loss"].append(sum(loss.item() for loss, _, _ in losses) / BATCHES)
        record["norm"].append(size)
        record["rate"].append(rate_of(step))
    arrays = {name: torch.tensor(values, dtype=torch.float32) for name, values in record.items()}
    for name, p in parameters.items():
        state = optimiser.state[p]
        arrays["start." + name] = made[name]
        arrays["end." + name] = p.detach().float()
        arrays["first." + name] = state["exp_avg"].float()
        arrays["second." + name] = state["exp_avg_sq"].float()
    metadata = {"train": TRAIN, "valid": VALID, "torch": torch.__version__}
    save_file(arrays, pathlib.Path(__file__).parent / "steps.safetensors", metadata)


if __name__ == "__main__":
    main()
