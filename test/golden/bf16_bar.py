"""How far PyTorch in bfloat16 is from the recorded float32 results: the bar for the engine's bfloat16 mode.

python3 bf16_bar.py nextstep-tiny        (needs torch)

Runs the single-stage cases of a folder's manifest with weights, inputs and activations in bfloat16, as the released
code does (norms and softmax in float32 inside, sampler state in float32), and writes bf16_bar.json beside the
manifest: tensor -> relative RMS error. test/native/golden_test.cpp asks for at most 1.5 times that.
"""
import json
import math
import os
import struct
import sys

import numpy as np
import torch
from torch.nn import functional as F

BF16 = torch.bfloat16


def load(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = f.read()
    return {name: torch.from_numpy(np.frombuffer(body[e["data_offsets"][0]:e["data_offsets"][1]], np.float32).reshape(e["shape"]).copy())
            for name, e in header.items() if name != "__metadata__"}


class Model:
    """The stages of nextstep.md 6, 7 and 10 over a dict of bfloat16 tensors."""

    def __init__(self, folder, vae):
        self.w = {k: v.to(BF16) for k, v in load(os.path.join(folder, "model.safetensors")).items()}
        self.v = {k: v.to(BF16) for k, v in load(os.path.join(folder, vae, "model.safetensors")).items()}
        self.c = json.load(open(os.path.join(folder, "config.json")))
        self.vc = json.load(open(os.path.join(folder, vae, "config.json")))

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    # backbone
    def rms_norm(self, name, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return y.to(BF16) * self.w[name]

    def rope(self, x, positions):
        half = x.shape[-1] // 2
        inv = self.c["rope_theta"] ** (-torch.arange(0, 2 * half, 2).float() / (2 * half))
        angle = positions.float()[:, None] * inv
        cos, sin = angle.cos().to(BF16)[:, None], angle.sin().to(BF16)[:, None]
        x1, x2 = x[..., :half], x[..., half:]
        return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)

    def backbone(self, x):
        """All positions at once, causal: the same numbers as prefill and steps."""
        c, t = self.c, x.shape[0]
        heads, kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        positions = torch.arange(t)
        future = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)
        for i in range(c["num_hidden_layers"]):
            p = f"layers.{i}."
            h = self.rms_norm(p + "input_layernorm.weight", x)
            q = self.rope(self.linear(p + "self_attn.q_proj", h).view(t, heads, d), positions)
            k = self.rope(self.linear(p + "self_attn.k_proj", h).view(t, kv, d), positions).repeat_interleave(heads // kv, 1)
            v = self.linear(p + "self_attn.v_proj", h).view(t, kv, d).repeat_interleave(heads // kv, 1)
            scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(d)
            weights = torch.softmax(scores.float().masked_fill(future, -math.inf), -1).to(BF16)
            x = x + self.linear(p + "self_attn.o_proj", torch.einsum("hqk,khd->qhd", weights, v).reshape(t, heads * d))
            h = self.rms_norm(p + "post_attention_layernorm.weight", x)
            x = x + self.linear(p + "mlp.down_proj", F.silu(self.linear(p + "mlp.gate_proj", h)) * self.linear(p + "mlp.up_proj", h))
        return self.rms_norm("norm.weight", x)

    # flow head
    def flow_head(self, x, t, condition):
        p = "image_head.net."
        f = torch.exp(-math.log(10000.0) * torch.arange(128).float() / 128)
        angle = t.to(BF16).float()[:, None] * f
        features = torch.cat([angle.cos(), angle.sin()], -1).to(BF16)
        tau = self.linear(p + "time_embed.mlp.2", F.silu(self.linear(p + "time_embed.mlp.0", features)))
        g = F.silu(tau + self.linear(p + "cond_embed", condition.to(BF16)))
        h = self.linear(p + "input_proj", x.to(BF16))
        width = h.shape[-1:]
        for j in range(self.c["fm_head_layers"]):
            b = f"{p}res_blocks.{j}."
            shift, scale, gate = self.linear(b + "adaLN_modulation.1", g).chunk(3, -1)
            u = F.layer_norm(h, width, self.w[b + "in_ln.weight"], self.w[b + "in_ln.bias"], 1e-6) * (1 + scale) + shift
            h = h + gate * self.linear(b + "mlp.2", F.silu(self.linear(b + "mlp.0", u)))
        shift, scale = self.linear(p + "final_layer.adaLN_modulation.1", g).chunk(2, -1)
        return self.linear(p + "final_layer.linear", F.layer_norm(h, width, eps=1e-6) * (1 + scale) + shift).float()

    # autoencoder
    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.v[name + ".weight"], self.v[name + ".bias"], stride, padding)

    def group_norm(self, name, x):
        return F.group_norm(x, 32, self.v[name + ".weight"], self.v[name + ".bias"], 1e-6)

    def res_block(self, p, x):
        h = self.conv(p + "conv1", F.silu(self.group_norm(p + "norm1", x)))
        h = self.conv(p + "conv2", F.silu(self.group_norm(p + "norm2", h)))
        return h + (self.conv(p + "nin_shortcut", x, padding=0) if p + "nin_shortcut.weight" in self.v else x)

    def middle(self, p, x):
        x = self.res_block(p + "block_1.", x)
        b, c, h, w = x.shape
        n = self.group_norm(p + "attn_1.norm", x)
        q, k, v = (self.conv(f"{p}attn_1.{name}", n, padding=0).view(b, c, h * w).transpose(1, 2) for name in "qkv")
        o = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).view(b, c, h, w)
        return self.res_block(p + "block_2.", x + self.conv(p + "attn_1.proj_out", o, padding=0))

    def decode(self, z):
        h = self.middle("decoder.mid.", self.conv("decoder.conv_in", z.to(BF16)))
        for level in reversed(range(len(self.vc["ch_mult"]))):
            for b in range(self.vc["num_res_blocks"] + 1):
                h = self.res_block(f"decoder.up.{level}.block.{b}.", h)
            if level:
                h = self.conv(f"decoder.up.{level}.upsample.conv", F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv("decoder.conv_out", F.silu(self.group_norm("decoder.norm_out", h))).float()


def stage_outputs(model, fixtures, case):
    kind = case["kind"]
    if kind == "flow_head":
        return [model.flow_head(fixtures[case["x"]], fixtures[case["t"]], fixtures[case["condition"]])]
    if kind == "backbone":
        ids = fixtures[case["ids"]].long()
        x = torch.cat([model.w["embed_tokens.weight"][ids], fixtures[case["step_embedding"]].to(BF16)])
        hidden = model.backbone(x).float()
        return [hidden[:len(ids)], hidden[len(ids):]]
    if kind == "vae_decode":
        return [model.decode(fixtures[case["latent"]])]
    return []  # whole pictures: rounding is amplified by guidance and time, a ratio of two runs says nothing


def main(folder):
    manifest = json.load(open(os.path.join(folder, "manifest.json")))
    model, fixtures = Model(folder, manifest["vae"]), load(os.path.join(folder, "fixtures.safetensors"))
    bar = {}
    with torch.no_grad():
        for case in manifest["cases"]:
            for name, got in zip(case["expect"], stage_outputs(model, fixtures, case)):
                want = fixtures[name].reshape(got.shape)
                bar[name] = float((got - want).pow(2).mean().sqrt() / want.pow(2).mean().sqrt())
                print(f"{case['name']:30s} {name:20s} {bar[name]:.5f}")
    with open(os.path.join(folder, "bf16_bar.json"), "w") as f:
        json.dump({"what": "relative RMS error of PyTorch bfloat16 against the recorded float32 results", "torch": torch.__version__.split("+")[0],
                   "tensors": bar}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
