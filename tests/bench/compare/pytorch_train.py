#!/usr/bin/env python3
"""The training step of tests/bench/bench_train.c in straightforward PyTorch: a decoder with a loop over experts.

4 layers of width 128, 4 heads, vocabulary 4096, 16 SwiGLU experts of width 256, top-2 with a balance loss; 8 sequences
of 256 random tokens; AdamW with a clipped gradient. Prints one line per case: NAME MEDIAN_MS.
"""
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

LAYERS, WIDTH, HEADS, VOCABULARY, EXPERTS, HIDDEN, CHOICES = 4, 128, 4, 4096, 16, 256, 2
SEQUENCES, LENGTH = 8, 256
WARM_UP_STEPS = 3


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v,
                                           is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList([Expert() for _ in range(EXPERTS)])

    def forward(self, x):
        rows = x.reshape(-1, WIDTH)
        probs = self.router(rows).float().softmax(-1)
        weights, ids = probs.topk(CHOICES, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            token, choice = torch.where(ids == index)
            out.index_add_(0, token, (expert(rows[token]) * weights[token, choice, None]).to(out.dtype))
        load = F.one_hot(ids, EXPERTS).float().mean((0, 1))
        return out.view_as(x), EXPERTS * (load * probs.mean(0)).sum()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.mixture_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention, self.mixture = Attention(), Mixture()

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        y, loss = self.mixture(self.mixture_norm(x))
        return x + y, loss


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        half = WIDTH // HEADS // 2
        angles = torch.outer(torch.arange(LENGTH).float(), 10000.0 ** (-torch.arange(half).float() / half))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, ids, targets):
        x, balance = self.embedding(ids), 0.0
        for block in self.blocks:
            x, loss = block(x, self.cos, self.sin)
            balance = balance + loss
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1)) + 0.01 * balance


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.manual_seed(0)
    ids, targets = torch.randint(VOCABULARY, (2, SEQUENCES, LENGTH))
    for name in ("bf16", "f32"):
        model = Decoder()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

        def step():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bf16"):
                loss = model(ids, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

        for _ in range(WARM_UP_STEPS):
            step()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        print(f"training_step/{name} {statistics.median(times):.3f}", flush=True)


if __name__ == "__main__":
    main()
