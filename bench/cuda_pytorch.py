"""PyTorch beside cuda_bench and cuda_vae_bench: the same shapes with made-up bf16 weights on one CUDA device, eager and, with
--compile, through torch.compile in its mode with CUDA graphs. Needs only torch. Prints markdown.

  cuda_pytorch.py [--compile] [products|decode|head|vae ...]      default: everything
"""
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 5120, 13824, 40, 8, 128
LAYERS, MODEL_LAYERS, CONTEXT = 8, 48, 1024  # layers measured, layers printed
HEAD_WIDTH, HEAD_BLOCKS, TOKEN = 1536, 12, 64
DEVICE, DTYPE = "cuda", torch.bfloat16
COLD_BYTES = 256 << 20  # weights in turns: more than any level of cache holds


def seconds(run, enough=0.1):
    """Of one run() on the device: many enqueued, one wait; the best of three."""
    def timed(count):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / count
    timed(3)
    count = max(3, min(2000, int(enough / timed(3))))
    return min(timed(count) for _ in range(3))


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
    layers = [conv(16, 512), ResidualBlock(512, 512), PixelAttention(512), ResidualBlock(512, 512)]
    channels = 512
    for level, width in enumerate([512, 512, 256, 128]):
        for _ in range(3):
            layers.append(ResidualBlock(channels, width))
            channels = width
        if level < 3:
            layers.append(Upsample(channels))
    layers += [group_norm(channels), nn.SiLU(), conv(channels, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def products():
    print("\n## Linear layers, bf16\n\n| layer | in | out | rows | us | TFLOP/s |\n|---|---|---|---|---|---|")
    for name, inputs, outputs in [("qkv", HIDDEN, 7168), ("attention out", HIDDEN, HIDDEN), ("gate, up", HIDDEN, 2 * INTERMEDIATE),
                                  ("down", INTERMEDIATE, HIDDEN), ("flow head block", HEAD_WIDTH, HEAD_WIDTH)]:
        layers = [linear(inputs, outputs) for _ in range(max(1, -(-COLD_BYTES // (2 * inputs * outputs))))]
        for rows in [1, 4, 8, 16, 32, 64, 256, 1024]:
            x, turn = torch.randn(rows, inputs, device=DEVICE, dtype=DTYPE), [0]

            def run():
                layers[turn[0] % len(layers)](x)
                turn[0] += 1
            taken = seconds(run, 0.03)
            print(f"| {name} | {inputs} | {outputs} | {rows} | {taken * 1e6:.1f} | {2 * rows * inputs * outputs / taken / 1e12:.1f} |")


def decode(prepare, compiled):
    print(f"\n## Backbone of 14B, one step, context {CONTEXT} ({LAYERS} layers measured, {MODEL_LAYERS} printed)\n\n| rows | ms |\n|---|---|")
    backbone = prepare(Backbone())
    for rows in [1, 8, 16] if compiled else [1, 2, 8, 10, 16, 32, 80, 160]:  # each row count is compiled anew
        shape = (rows, KV_HEADS, CONTEXT, HEAD_DIM)
        caches = [(torch.zeros(shape, device=DEVICE, dtype=DTYPE), torch.zeros(shape, device=DEVICE, dtype=DTYPE)) for _ in range(LAYERS)]
        x = torch.randn(rows, HIDDEN, device=DEVICE, dtype=DTYPE)
        cos, sin = torch.ones(HEAD_DIM // 2, device=DEVICE, dtype=DTYPE), torch.zeros(HEAD_DIM // 2, device=DEVICE, dtype=DTYPE)
        taken = seconds(lambda: backbone(x, cos, sin, caches))
        print(f"| {rows} | {taken * MODEL_LAYERS / LAYERS * 1e3:.2f} |")


def head(prepare, compiled):
    print("\n## Flow head of 14B, one token\n\n| pictures | timesteps | ms |\n|---|---|---|")
    flow_head = prepare(FlowHead())
    for pictures in [1] if compiled else [1, 4, 16]:
        for timesteps in [2] if compiled else [28, 2]:  # 28 unrolled timesteps compile for minutes
            x = torch.randn(pictures, TOKEN, device=DEVICE)
            times = torch.randn(timesteps, HEAD_WIDTH, device=DEVICE, dtype=DTYPE)
            condition = torch.randn(2 * pictures, HEAD_WIDTH, device=DEVICE, dtype=DTYPE)
            print(f"| {pictures} | {timesteps} | {seconds(lambda: flow_head(x, times, condition)) * 1e3:.3f} |")


def vae(prepare, _):
    decoder = prepare(vae_decoder())
    z = torch.randn(1, 16, 64, 64, device=DEVICE, dtype=DTYPE).to(memory_format=torch.channels_last)
    print(f"\n## Autoencoder, a decode at 512x512\n\n{seconds(lambda: decoder(z)) * 1e3:.2f} ms.")


def main():
    arguments = set(sys.argv[1:])
    compiled = "--compile" in arguments
    wanted = arguments - {"--compile"} or {"products", "decode", "head", "vae"}
    torch.backends.cudnn.benchmark = True
    mode = "compiled (reduce-overhead)" if compiled else "eager"
    print(f"# PyTorch {torch.__version__}, {mode}, {torch.cuda.get_device_name()}")

    def prepare(module):
        module.eval()
        return torch.compile(module, mode="reduce-overhead", dynamic=False) if compiled else module
    with torch.inference_mode():
        if "products" in wanted and not compiled:
            products()
        for name, part in [("decode", decode), ("head", head), ("vae", vae)]:
            if name in wanted:
                part(prepare, compiled)


if __name__ == "__main__":
    main()
