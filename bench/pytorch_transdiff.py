"""The other side of bench part "transdiff": TransDiff in plain eager PyTorch, batched. Needs only torch.

It draws as the model's reference does (docs/transdiff.md 2): the whole sequence through the transformer in every pass, keys and values of
the condition and all that follows from the time in every call of the decoder. Everything else is what a careful user of PyTorch
would write: inference mode, scaled_dot_product_attention, both guidance rows in one batch, weights and activations in one dtype where the
reference has autocast. Noise is handed in, so drawing it costs this side nothing.

Speaks JSON lines: a command on standard input, an answer on standard output.
  {"op": "load", "folder": ..., "dtype": "float32" | "bfloat16", "threads": 2}
  {"op": "call", "dtype": ..., "rows": R, "given": bool}
        one call of the decoder for R rows of the last pass's condition; given: its keys and values and the modulation are there   -> {"seconds": wall}
  {"op": "draw", "dtype": ..., "labels": [B], "noise": file, "timesteps": n, "guidance": g, "scale_0": s, "scale_1": s, "rgb": file}
        -> {"seconds": wall, "transformer": of it, "decoder": of it}; rgb: u8 (B, H, W, 3)
noise: float32 (B, passes, n + 1, N, C); of each pass the initial noise first, that of pass 0 serves all.
"""
import json
import math
import os
import sys
import time

import torch
from torch.nn import functional as F

from pytorch_eager import Decoder as VaeDecoder
from pytorch_eager import Weights, read_safetensors

EPS = 1e-6


class Layers(Weights):
    """Weights with the parts that both networks are made of."""

    def __init__(self, tensors, heads):
        super().__init__(tensors)
        self.heads = heads

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self[name + ".weight"], self[name + ".bias"], EPS)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q, k, v, mask=None):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def self_attention(self, name, x, mask=None):
        q, k, v = map(self.split, self(name + ".qkv", x).chunk(3, -1))
        return self(name + ".proj", self.attend(q, k, v, mask))

    def mlp(self, name, x):
        return self(name + ".fc2", F.gelu(self(name + ".fc1", x)))


class Transformer:
    def __init__(self, config, layers):
        self.c, self.w = config, layers
        self.class_tokens = config["buffer_size"]
        self.is_mrar = config["architecture"] == "transdiff-mrar"
        self.passes = config.get("ar_steps", 4) if self.is_mrar else 1
        self.pass_tokens = layers["diffusion_pos_embed_learned"].shape[1] // self.passes
        self.blocks = config["transformer_blocks"]

    def __call__(self, classes, references):
        """classes (R, D); references: latents (R, N, C) of the passes so far -> z (R, M, D)."""
        w, rows, n = self.w, len(classes), self.class_tokens
        masks = w["mask_token"].expand(rows, self.pass_tokens, -1)
        x = torch.cat([classes[:, None].expand(-1, n, -1), masks, *(w("z_proj", self.patches(latent)) for latent in references)], 1)
        length = x.shape[1]
        x = w.norm("z_proj_ln", x + w["encoder_pos_embed_learned"][:, :length])
        mask = self.mask(length, x.dtype) if self.is_mrar else None
        for i in range(self.blocks):
            p = f"encoder_blocks.{i}."
            x = x + w.self_attention(p + "attn", w.norm(p + "norm1", x), mask)
            x = x + w.mlp(p + "mlp", w.norm(p + "norm2", x))
        x = w.norm("encoder_norm", x)[:, n:]
        return x + w["diffusion_pos_embed_learned"][:, :length - n]

    def mask(self, length, dtype):
        """A position sees its own block and those before."""
        block = torch.cat([torch.zeros(self.class_tokens), 1 + torch.arange(length - self.class_tokens) // self.pass_tokens])
        return torch.zeros(length, length, dtype=dtype).masked_fill(block[None] > block[:, None], -1e4)

    def patches(self, x):
        """(R, N, C) -> (R, N / 4, 4 C): feature 4 c + 2 p + q."""
        side = math.isqrt(x.shape[1])
        x = x.unflatten(1, (side // 2, 2, side // 2, 2))            # r, row, p, column, q, c
        return x.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)


class DiffusionDecoder:
    def __init__(self, config, layers):
        self.w, self.p = layers, "diffdecoder.net."
        self.blocks, self.rounded = config["diffusion_blocks"], config["bf16_rounding_before_time_proj"]

    def keys_and_values(self, z):
        """Of every block, (R, heads, M, D / heads) each."""
        w, p = self.w, self.p
        c = w(p + "cond_embed", z)
        return [tuple(w.split(w(f"{p}res_blocks.{d}.attn2.{part}", c)) for part in ("wk", "wv")) for d in range(self.blocks)]

    def modulation(self, tau):
        """tau (R) -> of every block (R, 6, D), then of the output (R, 2, D)."""
        w, p = self.w, self.p
        angle = tau[:, None] * torch.exp(-math.log(10000.0) * torch.arange(128).float() / 128)
        s = torch.cat([angle.cos(), angle.sin()], -1).to(w[p + "input_proj.weight"].dtype)
        e = w(p + "time_embed.time_embedder.linear_2", F.silu(w(p + "time_embed.time_embedder.linear_1", s)))
        a = F.silu(e)
        m = w(p + "time_embed.time_proj", a.bfloat16().to(a.dtype) if self.rounded else a).unflatten(-1, (6, -1))
        return [w[f"{p}res_blocks.{d}.scale_shift_table"] + m for d in range(self.blocks)] + [w[p + "final_layer.scale_shift_table"] + e[:, None]]

    def velocity(self, x, kv, modulation):
        """x (R, N, C) -> v (R, N, C)."""
        w, p = self.w, self.p
        h = w(p + "input_proj", x) + w[p + "diffusion_pos_embed_learned"]
        for d in range(self.blocks):
            q = f"{p}res_blocks.{d}."
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation[d][:, :, None].unbind(1)
            h = h + gate1 * w.self_attention(q + "attn1", w.norm(q + "norm1", h) * (1 + scale1) + shift1)
            h = h + w(q + "attn2.proj", w.attend(w.split(w(q + "attn2.wq", w.norm(q + "norm2", h))), *kv[d]))
            h = h + gate2 * w.mlp(q + "mlp", w.norm(q + "norm3", h) * (1 + scale2) + shift2)
        shift, scale = modulation[-1][:, :, None].unbind(1)
        return w(p + "final_layer.linear", F.layer_norm(h, h.shape[-1:], eps=EPS) * (1 + scale) + shift)

    def __call__(self, x, z, tau):
        return self.velocity(x, self.keys_and_values(z), self.modulation(tau))


class Model:
    def __init__(self, folder, dtype):
        self.c, self.dtype = json.load(open(os.path.join(folder, "config.json"))), dtype
        self.w = Layers(read_safetensors(os.path.join(folder, "model.safetensors"), dtype), self.c["num_heads"])
        self.transformer, self.decoder = Transformer(self.c, self.w), DiffusionDecoder(self.c, self.w)
        vae = {"ch_mult": self.c.get("vae_ch_mult", [1, 1, 2, 2, 4]), "num_res_blocks": self.c.get("vae_num_res_blocks", 2),
               "scaling_factor": 1, "shift_factor": 0}
        self.vae_weights = Weights(read_safetensors(os.path.join(folder, "vae", "model.safetensors"), dtype))
        self.vae = VaeDecoder(vae, self.vae_weights)

    @torch.inference_mode()
    def call(self, rows, given):
        generator = torch.Generator().manual_seed(1)
        p = self.decoder.p
        tokens, width = self.w[p + "diffusion_pos_embed_learned"].shape[1:]
        draw = lambda *shape: torch.randn(shape, generator=generator).to(self.dtype)
        x = draw(rows, tokens, self.c["vae_channels"])
        z = draw(rows, self.w["diffusion_pos_embed_learned"].shape[1], width)
        tau = torch.full((rows,), 500.0)
        kv, modulation = self.decoder.keys_and_values(z), self.decoder.modulation(tau)
        begin = time.perf_counter()
        if given:
            self.decoder.velocity(x, kv, modulation)
        else:
            self.decoder(x, z, tau)
        return {"seconds": time.perf_counter() - begin}

    @torch.inference_mode()
    def draw(self, labels, noise, n, guidance, scale_0, scale_1):
        """noise (B, passes, n + 1, N, C) -> (B, H, W, 3) u8, and the seconds of transformer and decoder."""
        guided = guidance > 1
        both = lambda x: torch.cat([x, x]) if guided else x
        classes = self.w["class_emb.weight"][labels]
        if guided:
            classes = torch.cat([classes, self.w["fake_latent"].expand_as(classes)])
        times = torch.linspace(1, 0.04, n).tolist() + [0.0]
        latents, seconds = [], {"transformer": 0.0, "decoder": 0.0}
        for i in range(self.transformer.passes):
            begin = time.perf_counter()
            z = self.transformer(classes, [both(latent.to(self.dtype)) for latent in latents])
            seconds["transformer"] += time.perf_counter() - begin
            begin = time.perf_counter()
            x = noise[:, 0, 0]
            for k in range(n):
                t, dt, last = times[k], times[k + 1] - times[k], k == n - 1
                v = self.decoder(both(x).to(self.dtype), z, torch.full((len(z),), 1000.0 * t)).float()
                if guided:
                    v = v[len(x):] + guidance * (v[:len(x)] - v[len(x):])
                x = x + (1 if last else scale_0) * ((2 - t) * v + x) * dt
                if not last:
                    x = x + scale_1 * math.sqrt(2 * t * -dt) * noise[:, i, k + 1]
            latents.append(x)
            seconds["decoder"] += time.perf_counter() - begin
        return self.pixels(latents[-1]), seconds

    def pixels(self, x):
        side = math.isqrt(x.shape[1])
        z = (x / self.c["vae_scale"]).transpose(1, 2).unflatten(2, (side, side)).to(self.dtype)
        y = self.vae(self.vae_weights.conv("post_quant_conv", z, 0)).float()
        return (y / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def draw(model, o):
    with open(o["noise"], "rb") as file:
        noise = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    channels = model.c["vae_channels"]
    tokens = model.w["diffdecoder.net.diffusion_pos_embed_learned"].shape[1]
    noise = noise.reshape(len(o["labels"]), model.transformer.passes, o["timesteps"] + 1, tokens, channels)
    begin = time.perf_counter()
    rgb, seconds = model.draw(o["labels"], noise, o["timesteps"], o["guidance"], o["scale_0"], o["scale_1"])
    seconds["seconds"] = time.perf_counter() - begin
    with open(o["rgb"], "wb") as file:
        file.write(bytes(rgb.flatten().tolist()))
    return seconds


def main():
    models = {}
    for line in sys.stdin:
        o = json.loads(line)
        if o["op"] == "load":
            torch.set_num_threads(o["threads"])
            models.pop(o["dtype"], None)
            models[o["dtype"]] = Model(o["folder"], getattr(torch, o["dtype"]))
            answer = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        elif o["op"] == "call":
            answer = models[o["dtype"]].call(o["rows"], o["given"])
        else:
            answer = draw(models[o["dtype"]], o)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
