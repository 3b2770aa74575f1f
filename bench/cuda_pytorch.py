"""PyTorch beside cuda_bench and cuda_vae_bench: the same shapes with made-up bf16 weights on one CUDA device, eager and, with
--compile, through torch.compile in its mode with CUDA graphs. Needs only torch. Prints markdown, every row as soon as it is there.

  cuda_pytorch.py [--compile] [--tiny] [--only PART,PART ...]      parts: products, decode, transdiff, vae, head; default: all of them

--compile leaves products out and takes fewer rows and models: each number of rows is compiled anew. --tiny: small shapes on the
processor, to see that all of it runs; its times mean nothing.
"""
import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 5120, 13824, 40, 8, 128
LAYERS, MODEL_LAYERS, CONTEXT = 8, 48, 1024  # layers measured, layers printed
HEAD_WIDTH, HEAD_BLOCKS, TOKEN = 1536, 12, 64
TRANSDIFF = {"L": (1024, 16, 16), "H": (1280, 16, 20)}  # width, heads, blocks of the diffusion decoder
LATENT, CHANNELS, CONDITION = 256, 16, 256  # tokens of a picture of 256 x 256, numbers of one, condition tokens of the last pass
VAE_CHANNELS, VAE_SIDE = (512, 512, 256, 128), 64
DEVICE, DTYPE = "cuda", torch.bfloat16
COLD_BYTES = 256 << 20  # weights in turns: more than any level of cache holds


def seconds(run, enough=0.1):
    """Of one run() on the device: many enqueued, one wait; the best of three."""
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None

    def timed(count):
        wait()
        begin = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        return (time.perf_counter() - begin) / count
    timed(3)
    count = max(3, min(2000, int(enough / timed(3))))
    return min(timed(count) for _ in range(3))


def show(line):
    print(line, flush=True)


def keep(compiled, *tensors):
    """Tensors that stay where they are from call to call, as caches do: told so, torch.compile's CUDA graphs neither copy them each time
    nor give way because they are written to."""
    if compiled:
        for tensor in tensors:
            torch._dynamo.mark_static_address(tensor)
    return tensors


def linear(inputs, outputs, bias=False):
    layer = nn.Linear(inputs, outputs, bias=bias, device=DEVICE, dtype=DTYPE)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, device=DEVICE, dtype=DTYPE))

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(DTYPE) * self.weight


class Layer(nn.Module):
    """One position a row over a cache that is there already: keys and values (rows, kv heads, context, head dim)."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = Norm(HIDDEN), Norm(HIDDEN)
        self.qkv, self.out = linear(HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM, bias=True), linear(HEADS * HEAD_DIM, HIDDEN)
        self.gate_up, self.down = linear(HIDDEN, 2 * INTERMEDIATE), linear(INTERMEDIATE, HIDDEN)

    def forward(self, x, cos, sin, keys, values):
        rows = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).view(rows, HEADS + 2 * KV_HEADS, 1, HEAD_DIM).split([HEADS, KV_HEADS, KV_HEADS], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys[:, :, -1:], values[:, :, -1:] = k, v
        out = F.scaled_dot_product_attention(q, keys, values, enable_gqa=True)
        x = x + self.out(out.reshape(rows, HEADS * HEAD_DIM))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.norm = nn.ModuleList(Layer() for _ in range(LAYERS)), Norm(HIDDEN)

    def forward(self, x, cos, sin, caches):
        for layer, (keys, values) in zip(self.layers, caches):
            x = layer(x, cos, sin, keys, values)
        return self.norm(x)


class FlowHead(nn.Module):
    """All timesteps of one token: modulations of all at once, then a velocity and an Euler step each. Two guidance rows a picture."""

    def __init__(self):
        super().__init__()
        self.modulation = linear(HEAD_WIDTH, HEAD_WIDTH * (3 * HEAD_BLOCKS + 2), bias=True)
        self.input, self.output = linear(TOKEN, HEAD_WIDTH, bias=True), linear(HEAD_WIDTH, TOKEN, bias=True)
        self.norms = nn.ModuleList(nn.LayerNorm(HEAD_WIDTH, eps=1e-6, device=DEVICE, dtype=DTYPE) for _ in range(HEAD_BLOCKS))
        self.up = nn.ModuleList(linear(HEAD_WIDTH, HEAD_WIDTH, bias=True) for _ in range(HEAD_BLOCKS))
        self.down = nn.ModuleList(linear(HEAD_WIDTH, HEAD_WIDTH, bias=True) for _ in range(HEAD_BLOCKS))

    def forward(self, x, times, condition):
        modulation = self.modulation(F.silu(times[:, None] + condition[None]))  # (timesteps, rows, ...)
        for step in range(times.shape[0]):
            parts = modulation[step].split(HEAD_WIDTH, dim=-1)
            h = self.input(x.to(DTYPE)).repeat_interleave(2, dim=0)
            for i in range(HEAD_BLOCKS):
                shift, scale, gate = parts[3 * i:3 * i + 3]
                h = h + gate * self.down[i](F.silu(self.up[i](self.norms[i](h) * (1 + scale) + shift)))
            u = F.layer_norm(h, (HEAD_WIDTH,), eps=1e-6) * (1 + parts[-1]) + parts[-2]
            conditional, unconditional = self.output(u).float().view(-1, 2, TOKEN).unbind(1)
            x = x + (unconditional + 7.5 * (conditional - unconditional)) / times.shape[0]
        return x


def conv(inputs, outputs, kernel=3):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, device=DEVICE, dtype=DTYPE)


def group_norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6, device=DEVICE, dtype=DTYPE)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = group_norm(inputs), conv(inputs, outputs), group_norm(outputs), conv(outputs, outputs)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class PixelAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv, self.out = group_norm(channels), conv(channels, 3 * channels, 1), conv(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).view(b, 1, h * w, 3 * c).chunk(3, dim=-1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).view(b, h, w, c).permute(0, 3, 1, 2))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def vae_decoder():
    channels = VAE_CHANNELS[0]
    layers = [conv(16, channels), ResidualBlock(channels, channels), PixelAttention(channels), ResidualBlock(channels, channels)]
    for level, width in enumerate(VAE_CHANNELS):
        for _ in range(3):
            layers.append(ResidualBlock(channels, width))
            channels = width
        if level < 3:
            layers.append(Upsample(channels))
    layers += [group_norm(channels), nn.SiLU(), conv(channels, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class DiffusionBlock(nn.Module):
    """Self-attention over the latent, attention over the condition, MLP; the first and the last modulated and gated."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6, device=DEVICE, dtype=DTYPE) for _ in range(3))
        self.qkv, self.self_out = linear(width, 3 * width), linear(width, width)
        self.cross_q, self.cross_kv, self.cross_out = linear(width, width), linear(width, 2 * width), linear(width, width)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)
        self.table = nn.Parameter(torch.randn(6, width, device=DEVICE, dtype=DTYPE))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, h, keys, values, modulation):
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(-2)
        q, k, v = map(self.split, self.qkv(self.norms[0](h) * (1 + scale1) + shift1).chunk(3, -1))
        h = h + gate1 * self.self_out(self.attend(q, k, v))
        h = h + self.cross_out(self.attend(self.split(self.cross_q(self.norms[1](h))), keys, values))
        return h + gate2 * self.down(F.gelu(self.up(self.norms[2](h) * (1 + scale2) + shift2)))


class DiffusionDecoder(nn.Module):
    """A call of TransDiff's diffusion decoder and the sampler's step after it. Two guidance rows a picture."""

    def __init__(self, width, heads, blocks):
        super().__init__()
        self.width = width
        self.positions = nn.Parameter(torch.randn(LATENT, width, device=DEVICE, dtype=DTYPE))
        self.input, self.output = linear(CHANNELS, width), linear(width, CHANNELS)
        self.condition = linear(width, width)
        self.time_in, self.time_out, self.time_modulation = linear(256, width), linear(width, width), linear(width, 6 * width)
        self.blocks = nn.ModuleList(DiffusionBlock(width, heads) for _ in range(blocks))
        self.table = nn.Parameter(torch.randn(2, width, device=DEVICE, dtype=DTYPE))

    def keys_and_values(self, z):
        """z (rows, condition, width) -> of every block (rows, heads, condition, head dim), twice."""
        c = self.condition(z)
        return [tuple(map(block.split, block.cross_kv(c).chunk(2, -1))) for block in self.blocks]

    def modulations(self, features):
        """features (rows, 256) of the time -> of every block (rows, 1, 6, width), then of the output (rows, 1, 2, width)."""
        e = self.time_out(F.silu(self.time_in(features)))
        m = self.time_modulation(F.silu(e)).view(-1, 1, 6, self.width)
        return [block.table + m for block in self.blocks] + [self.table + e[:, None, None]]

    def forward(self, x, kv, modulations):
        """x (pictures, tokens, channels), float32 -> the same a timestep on."""
        h = (self.input(x.to(DTYPE)) + self.positions).repeat_interleave(2, dim=0)
        for block, (keys, values), modulation in zip(self.blocks, kv, modulations):
            h = block(h, keys, values, modulation)
        shift, scale = modulations[-1].unbind(-2)
        v = self.output(F.layer_norm(h, (self.width,), eps=1e-6) * (1 + scale) + shift).float()
        conditional, unconditional = v.unflatten(0, (-1, 2)).unbind(1)
        return x + (unconditional + 3.0 * (conditional - unconditional)) / 100


def products(_, compiled):
    if compiled:
        return
    show("\n## Linear layers, bf16\n\n| layer | in | out | rows | us | TFLOP/s |\n|---|---|---|---|---|---|")
    for name, inputs, outputs in [("qkv", HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM), ("attention out", HIDDEN, HIDDEN),
                                  ("gate, up", HIDDEN, 2 * INTERMEDIATE), ("down", INTERMEDIATE, HIDDEN), ("flow head block", HEAD_WIDTH, HEAD_WIDTH)]:
        layers = [linear(inputs, outputs) for _ in range(max(1, -(-COLD_BYTES // (2 * inputs * outputs))))]
        for rows in [1, 4, 8, 16, 32, 64, 80, 160, 256, 1024]:
            x, turn = torch.randn(rows, inputs, device=DEVICE, dtype=DTYPE), [0]

            def run():
                layers[turn[0] % len(layers)](x)
                turn[0] += 1
            taken = seconds(run, 0.03)
            show(f"| {name} | {inputs} | {outputs} | {rows} | {taken * 1e6:.1f} | {2 * rows * inputs * outputs / taken / 1e12:.1f} |")


def decode(prepare, compiled):
    show(f"\n## Backbone of 14B, one step, context {CONTEXT} ({LAYERS} layers measured, {MODEL_LAYERS} printed)\n\n| rows | ms |\n|---|---|")
    backbone = prepare(Backbone())
    for rows in [1, 2, 8, 16] if compiled else [1, 2, 8, 10, 16, 32, 80, 160]:
        shape = (rows, KV_HEADS, CONTEXT, HEAD_DIM)
        caches = [keep(compiled, *(torch.zeros(shape, device=DEVICE, dtype=DTYPE) for _ in range(2))) for _ in range(LAYERS)]
        x = torch.randn(rows, HIDDEN, device=DEVICE, dtype=DTYPE)
        cos, sin = torch.ones(HEAD_DIM // 2, device=DEVICE, dtype=DTYPE), torch.zeros(HEAD_DIM // 2, device=DEVICE, dtype=DTYPE)
        taken = seconds(lambda: backbone(x, cos, sin, caches))
        show(f"| {rows} | {taken * MODEL_LAYERS / LAYERS * 1e3:.2f} |")


def head(prepare, compiled):
    show("\n## Flow head of 14B, one token\n\n| pictures | timesteps | ms |\n|---|---|---|")
    flow_head = prepare(FlowHead())
    for pictures in [1] if compiled else [1, 4, 16]:
        for timesteps in [2] if compiled else [28, 2]:  # 28 unrolled timesteps compile for minutes
            x = torch.randn(pictures, TOKEN, device=DEVICE)
            times = torch.randn(timesteps, HEAD_WIDTH, device=DEVICE, dtype=DTYPE)
            condition = torch.randn(2 * pictures, HEAD_WIDTH, device=DEVICE, dtype=DTYPE)
            show(f"| {pictures} | {timesteps} | {seconds(lambda: flow_head(x, times, condition)) * 1e3:.3f} |")


def vae(prepare, _):
    decoder = prepare(vae_decoder())
    z = torch.randn(1, 16, VAE_SIDE, VAE_SIDE, device=DEVICE, dtype=DTYPE).to(memory_format=torch.channels_last)
    show(f"\n## Autoencoder, a decode at {8 * VAE_SIDE}x{8 * VAE_SIDE}\n\n{seconds(lambda: decoder(z)) * 1e3:.2f} ms.")


def call_flops(width, blocks, rows):
    """As cuda_bench counts them: products and both attentions of the blocks, keys and values of the condition given."""
    return 2 * rows * blocks * LATENT * width * (14 * width + 2 * LATENT + 2 * CONDITION)


def transdiff(prepare, compiled):
    show("\n## TransDiff, 256 x 256, guidance: a call of the decoder and the sampler's step\n\n"
         f"ms: what the decoder call of cuda_bench times. Keys and values of the {CONDITION} condition tokens and the modulations are given on both sides,\n"
         "as the engine keeps them from timestep to timestep. The reference computes them anew in every call: the last column, never compiled, in\n"
         "which PyTorch does more than cuda_bench's call.\n\n"
         "| model | pictures | ms | TFLOP/s | as the reference: ms |\n|---|---|---|---|---|")
    for name, (width, heads, blocks) in list(TRANSDIFF.items())[:1 if compiled else None]:
        plain = DiffusionDecoder(width, heads, blocks).eval()
        decoder = prepare(plain)
        for pictures in [1, 16] if compiled else [1, 4, 16]:
            rows = 2 * pictures
            x = torch.randn(pictures, LATENT, CHANNELS, device=DEVICE)
            z = torch.randn(rows, CONDITION, width, device=DEVICE, dtype=DTYPE)
            features = torch.randn(rows, 256, device=DEVICE, dtype=DTYPE)
            kv = [keep(compiled, keys.contiguous(), values.contiguous()) for keys, values in plain.keys_and_values(z)]
            modulations = plain.modulations(features[:1])  # a time for all rows
            keep(compiled, *modulations)
            taken = seconds(lambda: decoder(x, kv, modulations), 0.04)
            whole = "" if compiled else f"{seconds(lambda: plain(x, plain.keys_and_values(z), plain.modulations(features)), 0.04) * 1e3:.2f}"
            show(f"| {name} | {pictures} | {taken * 1e3:.2f} | {call_flops(width, blocks, rows) / taken / 1e12:.0f} | {whole} |")


PARTS = {"products": products, "decode": decode, "transdiff": transdiff, "vae": vae, "head": head}


def shrink():
    """Of everything little, on the processor."""
    globals().update(HIDDEN=64, INTERMEDIATE=96, HEADS=4, KV_HEADS=2, HEAD_DIM=16, LAYERS=2, CONTEXT=32, HEAD_WIDTH=32, HEAD_BLOCKS=2, TOKEN=8,
                     TRANSDIFF={"L": (64, 4, 2), "H": (80, 4, 2)}, LATENT=16, CHANNELS=4, CONDITION=8, VAE_CHANNELS=(64, 64, 32, 32), VAE_SIDE=8,
                     DEVICE="cpu", COLD_BYTES=1 << 16)


def main():
    parser = argparse.ArgumentParser(description="PyTorch on the shapes of cuda_bench and cuda_vae_bench")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    options = parser.parse_args()
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.tiny:
        shrink()
    torch.backends.cudnn.benchmark = True
    mode = "compiled (reduce-overhead)" if options.compile else "eager"
    where = torch.cuda.get_device_name() if DEVICE == "cuda" else "tiny shapes on the processor: no measurement"
    show(f"# PyTorch {torch.__version__}, {mode}, {where}")
    begin = time.perf_counter()

    def prepare(module):
        module.eval()
        return torch.compile(module, mode="reduce-overhead", dynamic=False) if options.compile else module
    with torch.inference_mode():
        for name in options.only:
            PARTS[name](prepare, options.compile)
            if options.compile:
                skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]  # torch says so nowhere else
                show(f"\n{name}: done {time.perf_counter() - begin:.0f} s after the start; so far {skipped} compiled without CUDA graphs.")
            if DEVICE == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
