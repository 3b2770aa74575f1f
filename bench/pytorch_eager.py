"""The other side of bench part "pytorch": NextStep in plain eager PyTorch, batched, with a KV cache. Needs only torch.

What a careful user of PyTorch would write: inference mode, a preallocated KV cache, scaled_dot_product_attention without
copies of the shared heads, both guidance rows of all pictures in one batch, everything that does not depend on the drawn
numbers (timestep embeddings) computed once per picture. Noise is handed in, so drawing it costs this side nothing.

Speaks JSON lines: a command on standard input, an answer on standard output.
  {"op": "load", "folder": ..., "dtype": "float32" | "bfloat16", "threads": 2}
  {"op": "draw", "rows": [[ids of captions...], [ids of negatives...]], "noise": file, "grid": [h, w], "timesteps": N, "shift": s,
   "guidance": g, "use_norm": bool, "rgb": file}       -> {"seconds": wall}; rgb: u8 (B, H, W, 3)
noise: float32 (B, h w, N + 1, D), the initial noise of a token first.
"""
import json
import math
import os
import struct
import sys
import time

import torch
from torch.nn import functional as F

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_safetensors(path, dtype):
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(memoryview(data)[begin:end], dtype=DTYPES[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"]).to(dtype).clone()
    return tensors


class Weights:
    """w("layers.0.mlp", x): the linear layer of that name, with its bias if it has one."""

    def __init__(self, tensors):
        self.t = tensors

    def __getitem__(self, name):
        return self.t[name]

    def __call__(self, name, x):
        return F.linear(x, self.t[name + ".weight"], self.t.get(name + ".bias"))

    def conv(self, name, x, padding=1):
        return F.conv2d(x, self.t[name + ".weight"], self.t[name + ".bias"], padding=padding)


class Backbone:
    def __init__(self, config, weights):
        self.c, self.w = config, weights
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.d = config.get("head_dim") or config["hidden_size"] // self.heads
        self.theta = config["rope_theta"]

    def start(self, batch, capacity, dtype):
        shape = (batch, self.kv_heads, capacity, self.d)
        self.cache = [(torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)) for _ in range(self.c["num_hidden_layers"])]
        inv = self.theta ** (-torch.arange(0, self.d, 2).float() / self.d)
        angle = torch.arange(capacity).float()[:, None] * inv
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def norm(self, name, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])).to(x.dtype) * self.w[name + ".weight"]

    def rotate(self, x, begin, end):
        cos, sin = self.cos[begin:end], self.sin[begin:end]
        x1, x2 = x.chunk(2, -1)
        return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)

    def __call__(self, x, begin, mask):
        """x (B, T, H) at positions begin ... begin + T - 1; mask (B, 1, T, end), added to the scores -> (B, T, H)."""
        b, t, _ = x.shape
        end, w = begin + t, self.w
        for i, (keys, values) in enumerate(self.cache):
            p = f"layers.{i}."
            a = self.norm(p + "input_layernorm", x)
            q = self.rotate(w(p + "self_attn.q_proj", a).view(b, t, self.heads, self.d).transpose(1, 2), begin, end)
            k = self.rotate(w(p + "self_attn.k_proj", a).view(b, t, self.kv_heads, self.d).transpose(1, 2), begin, end)
            keys[:, :, begin:end] = k
            values[:, :, begin:end] = w(p + "self_attn.v_proj", a).view(b, t, self.kv_heads, self.d).transpose(1, 2)
            o = self.attend(q, keys[:, :, :end], values[:, :, :end], mask)
            x = x + w(p + "self_attn.o_proj", o.transpose(1, 2).reshape(b, t, -1))
            m = self.norm(p + "post_attention_layernorm", x)
            x = x + w(p + "mlp.down_proj", F.silu(w(p + "mlp.gate_proj", m)) * w(p + "mlp.up_proj", m))
        return self.norm("norm", x)

    def attend(self, q, k, v, mask):
        b, _, t, d = q.shape
        group = self.heads // self.kv_heads
        if t == 1:                                      # the heads of a group become queries that share their keys
            return F.scaled_dot_product_attention(q.view(b, self.kv_heads, group, d), k, v, attn_mask=mask).view(b, self.heads, 1, d)
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class FlowHead:
    def __init__(self, config, weights):
        self.w, self.p = weights, "image_head.net."
        self.blocks = config.get("fm_head_layers") or config["genloss_depth"]

    def time(self, grid, dtype):
        """(N) -> (N, W), once per picture."""
        f = torch.exp(-math.log(10000.0) * torch.arange(128).float() / 128)
        angle = torch.tensor(grid).float()[:, None] * f
        y = torch.cat([angle.cos(), angle.sin()], -1).to(dtype)
        return self.w(self.p + "time_embed.mlp.2", F.silu(self.w(self.p + "time_embed.mlp.0", y)))

    def velocity(self, x, time, condition):
        """x (B, D), time (W), condition (B, W) already embedded -> (B, D)."""
        w, p = self.w, self.p
        g = F.silu(time + condition)
        h = w(p + "input_proj", x)
        for j in range(self.blocks):
            q = f"{p}res_blocks.{j}."
            shift, scale, gate = w(q + "adaLN_modulation.1", g).chunk(3, -1)
            u = F.layer_norm(h, h.shape[-1:], w[q + "in_ln.weight"], w[q + "in_ln.bias"], 1e-6) * (1 + scale) + shift
            h = h + gate * w(q + "mlp.2", F.silu(w(q + "mlp.0", u)))
        shift, scale = w(p + "final_layer.adaLN_modulation.1", g).chunk(2, -1)
        return w(p + "final_layer.linear", F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class Decoder:
    def __init__(self, config, weights):
        self.c, self.w = config, weights

    def norm(self, name, x):
        return F.group_norm(x, 32, self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def res(self, name, x):
        h = self.w.conv(name + ".conv1", F.silu(self.norm(name + ".norm1", x)))
        h = self.w.conv(name + ".conv2", F.silu(self.norm(name + ".norm2", h)))
        return h + (self.w.conv(name + ".nin_shortcut", x, 0) if name + ".nin_shortcut.weight" in self.w.t else x)

    def attention(self, name, x):
        b, c, h, w = x.shape
        n = self.norm(name + ".norm", x)
        q, k, v = (self.w.conv(f"{name}.{part}", n, 0).reshape(b, 1, c, h * w).transpose(2, 3) for part in "qkv")
        o = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, h, w)
        return x + self.w.conv(name + ".proj_out", o, 0)

    def __call__(self, z):
        h = self.w.conv("decoder.conv_in", z / self.c["scaling_factor"] + self.c["shift_factor"])
        h = self.res("decoder.mid.block_2", self.attention("decoder.mid.attn_1", self.res("decoder.mid.block_1", h)))
        for level in reversed(range(len(self.c["ch_mult"]))):
            for block in range(self.c["num_res_blocks"] + 1):
                h = self.res(f"decoder.up.{level}.block.{block}", h)
            if level:
                h = self.w.conv(f"decoder.up.{level}.upsample.conv", F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.w.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", h)))


class Model:
    def __init__(self, folder, dtype):
        config = json.load(open(os.path.join(folder, "config.json")))
        vae_config = json.load(open(os.path.join(folder, "vae", "config.json")))
        self.config, self.dtype = config, dtype
        self.w = Weights(read_safetensors(os.path.join(folder, "model.safetensors"), dtype))
        self.backbone, self.head = Backbone(config, self.w), FlowHead(config, self.w)
        self.decoder = Decoder(vae_config, Weights(read_safetensors(os.path.join(folder, "vae", "model.safetensors"), dtype)))

    @torch.inference_mode()
    def draw(self, rows, noise, grid, timesteps, shift, guidance, use_norm):
        """rows: captions, then as many negatives (or none without guidance); noise (B, L, N + 1, D) -> (B, H, W, 3) u8."""
        count, length, width = noise.shape[0], grid[0] * grid[1], max(map(len, rows))
        guided = len(rows) > count
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        seen = torch.tensor([[False] * (width - len(row)) + [True] * (len(row) + length) for row in rows])
        bias = torch.zeros(seen.shape, dtype=self.dtype).masked_fill(~seen, -1e4)[:, None, None]        # (B, 1, 1, width + length)
        causal = torch.zeros(width, width, dtype=self.dtype).masked_fill(~torch.ones(width, width, dtype=torch.bool).tril(), -1e4)
        self.backbone.start(len(rows), width + length, self.dtype)
        # Rotary positions are relative and padding is masked, so this equals every row alone from position 0.
        hidden = self.backbone(self.w["embed_tokens.weight"][ids], 0, bias[..., :width] + causal)[:, -1]
        ts = [k / timesteps / (shift - (shift - 1) * k / timesteps) for k in range(timesteps)] + [1.0]
        times = self.head.time(ts[:-1], self.dtype)
        drawn = []
        for n in range(length):
            condition = self.w("image_head.net.cond_embed", self.w("image_out_projector", hidden))
            x = noise[:, n, 0]
            for k in range(timesteps):
                t, dt = ts[k], ts[k + 1] - ts[k]
                state = x.to(self.dtype)
                v = self.head.velocity(torch.cat([state, state]) if guided else state, times[k], condition).float()
                if guided:
                    v = v[count:] + guidance * (v[:count] - v[count:])
                x = x + ((1 + t) * v - x) * dt + math.sqrt(2 * (1 - t) * dt) * noise[:, n, k + 1]
            if use_norm:
                x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
            drawn.append(x)
            if n + 1 < length:
                embedding = self.w("image_in_projector", x.to(self.dtype))[:, None]
                position = width + n
                hidden = self.backbone(torch.cat([embedding, embedding]) if guided else embedding, position, bias[..., :position + 1])[:, -1]
        return self.pixels(torch.stack(drawn, 1), grid)

    def pixels(self, tokens, grid):
        b, p, (h, w) = len(tokens), self.config["latent_patch_size"], grid
        z = tokens.reshape(b, h, w, -1, p, p).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, h * p, w * p)
        y = self.decoder(z.to(self.dtype)).float()
        return (y / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def draw(model, o):
    with open(o["noise"], "rb") as file:
        noise = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    count = len(o["rows"]) // (2 if o["guidance"] > 1 else 1)
    noise = noise.reshape(count, o["grid"][0] * o["grid"][1], o["timesteps"] + 1, -1)
    begin = time.perf_counter()
    rgb = model.draw(o["rows"], noise, o["grid"], o["timesteps"], o["shift"], o["guidance"], o["use_norm"])
    seconds = time.perf_counter() - begin
    with open(o["rgb"], "wb") as file:
        file.write(bytes(rgb.flatten().tolist()))
    return {"seconds": seconds}


def main():
    models = {}
    for line in sys.stdin:
        o = json.loads(line)
        if o["op"] == "load":
            torch.set_num_threads(o["threads"])
            models[o["dtype"]] = Model(o["folder"], getattr(torch, o["dtype"]))
            answer = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        else:
            answer = draw(models[o["dtype"]], o)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
