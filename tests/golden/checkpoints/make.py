#!/usr/bin/env python3
"""Makes blocks.gguf and numbers.safetensors: stored values beside the numbers that other readers make of them.

Each tensor NAME is stored in the type under test and NAME.values holds its values in f32, decoded by the gguf package
(blocks) or by PyTorch and transformers (numbers). Made with the versions below; the tests read the two files alone.

    python3 -m pip install gguf==0.19.0 numpy==2.4.6 torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    python3 make.py
"""
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = pathlib.Path(__file__).parent
ROWS = 2
# Type -> (values of a row, bytes of a block, places of the f16 factors in a block)
BLOCKS = {
    "Q8_0": (64, 34, [0]),
    "Q4_0": (64, 18, [0]),
    "Q4_K": (256, 144, [0, 2]),
    "Q5_K": (256, 176, [0, 2]),
    "Q6_K": (256, 210, [208]),
    "MXFP4": (64, 17, []),
}


def random_blocks(random, kind):
    """Blocks of random bits under factors of a usual size, one of them negative and one subnormal."""
    values, size, factors = BLOCKS[kind]
    per_block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    data = random.integers(0, 256, (ROWS, values // per_block * size), dtype=np.uint8)
    for block in range(data.size // size):
        flat = data.reshape(-1)[block * size : (block + 1) * size]
        for place in factors:
            factor = np.float16([random.uniform(0.001, 0.1), -0.02, 3e-6][min(block, 2)])
            flat[place : place + 2] = np.frombuffer(factor.tobytes(), np.uint8)
        if kind == "MXFP4":
            flat[0] = [0, 1, 127, 140][block % 4]
    return data


def write_blocks():
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(HERE / "blocks.gguf", "llama")
    for kind in BLOCKS:
        number = gguf.GGMLQuantizationType[kind]
        data = random_blocks(random, kind)
        writer.add_tensor(kind, data, raw_dtype=number)
        writer.add_tensor(kind + ".values", gguf.dequantize(data, number).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_numbers():
    every_byte = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    tensors = {}

    def add(name, tensor):
        tensors[name] = tensor.clone()
        tensors[name + ".values"] = tensor.float().contiguous()

    add("f8_e4m3", every_byte.view(torch.float8_e4m3fn))
    add("f8_e5m2", every_byte.view(torch.float8_e5m2))
    add("f8_e8m0", every_byte.view(torch.float8_e8m0fnu))
    halves = (torch.arange(256, dtype=torch.int32) * 257).to(torch.int16)
    add("f16", halves.view(torch.float16))
    add("bf16", halves.view(torch.bfloat16))
    add("i16", halves)
    add("f64", torch.linspace(-3, 3, 7, dtype=torch.float64) ** 9)
    add("u8", every_byte)
    add("bool", torch.tensor([True, False, True]))
    generator = torch.Generator().manual_seed(7)
    blocks = torch.randint(0, 256, (2, 3, 2, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(120, 134, (2, 3, 2), generator=generator, dtype=torch.uint8)
    tensors["experts_blocks"], tensors["experts_scales"] = blocks, scales
    # transformers gives [experts, in, out]; stored, and read by us, is [experts, out, in].
    values = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).transpose(1, 2)
    tensors["experts.values"] = values.contiguous()
    save_file(tensors, HERE / "numbers.safetensors")


write_blocks()
write_numbers()
