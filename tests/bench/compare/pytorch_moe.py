#!/usr/bin/env python3
"""The MoE block of tests/bench/bench_moe.c in PyTorch, as it is usually written: a loop over experts.

512 tokens of width 1024, 64 SwiGLU experts of width 512, softmax top-8 renormalised. Prints one line per case with the
median time in milliseconds: NAME MEDIAN. The names are those of moegauge-bench.
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F

TOKENS, WIDTH, EXPERTS, CHOICES, HIDDEN = 512, 1024, 64, 8, 512


class Block(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()

        def weight(*shape):
            return torch.nn.Parameter((torch.randn(*shape) * 0.02).to(dtype))

        self.router = weight(EXPERTS, WIDTH)
        self.gate = torch.nn.ParameterList([weight(HIDDEN, WIDTH) for _ in range(EXPERTS)])
        self.up = torch.nn.ParameterList([weight(HIDDEN, WIDTH) for _ in range(EXPERTS)])
        self.down = torch.nn.ParameterList([weight(WIDTH, HIDDEN) for _ in range(EXPERTS)])

    def forward(self, x):
        probs = F.linear(x, self.router).float().softmax(-1)
        weights, ids = probs.topk(CHOICES, dim=-1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        out = torch.zeros_like(x)
        chosen = F.one_hot(ids, EXPERTS).permute(2, 1, 0)
        for expert in range(EXPERTS):
            choice, token = torch.where(chosen[expert])
            if token.numel() == 0:
                continue
            rows = x[token]
            hidden = F.silu(F.linear(rows, self.gate[expert])) * F.linear(rows, self.up[expert])
            y = F.linear(hidden, self.down[expert]) * weights[token, choice, None]
            out.index_add_(0, token, y)
        return out


def forward(block, x):
    with torch.no_grad():
        block(x)


def forward_backward(block, x):
    block(x).sum().backward()
    block.zero_grad(set_to_none=True)
    x.grad = None


def median_ms(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.manual_seed(0)
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        block = Block(dtype)
        x = torch.randn(TOKENS, WIDTH).to(dtype).requires_grad_(True)
        for case, function in (("forward", forward), ("forward_backward", forward_backward)):
            print(f"expert_mlp/{case}/{name} {median_ms(lambda: function(block, x), repeats):.3f}", flush=True)


if __name__ == "__main__":
    main()
