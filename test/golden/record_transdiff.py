"""A plain float32 TransDiff in PyTorch, written from docs/transdiff.md, that records and checks golden cases.

    python test/golden/record_transdiff.py check FOLDER     # a recorded folder against this implementation
    python test/golden/record_transdiff.py record           # writes transdiff-one-pass/ (small grid, guidance, no rounding)
    python test/golden/record_transdiff.py bar FOLDER       # writes its bf16_bar.json: how far PyTorch's bfloat16 autocast, in which
                                                            # the reference runs, is from the recorded results (relative RMS)
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, group_norm, interpolate, layer_norm, linear, scaled_dot_product_attention, silu

HERE = Path(__file__).parent
# The autoencoder of a model of train/, so that its weights are decoded by two independent implementations.
VAE = "../../../train/golden-transdiff/vae"
DTYPES = {"F32": (torch.float32, 4), "BF16": (torch.bfloat16, 2), "I64": (torch.int64, 8), "U8": (torch.uint8, 1)}
NAMES = {dtype: (name, width) for name, (dtype, width) in DTYPES.items()}


def read(path: Path) -> dict[str, Tensor]:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    body = bytearray(raw[8 + size :])
    out = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        dtype, width = DTYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        out[name] = torch.frombuffer(body, dtype=dtype, offset=begin, count=(end - begin) // width).reshape(entry["shape"]).clone()
    return out


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    header, at = {}, 0
    for name, tensor in tensors.items():
        dtype, width = NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + width * tensor.numel()]}
        at += width * tensor.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() for tensor in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


class Model:
    def __init__(self, weights: dict[str, Tensor], config: dict):
        self.w, self.config = {name: tensor.float() for name, tensor in weights.items()}, config
        self.heads, self.class_tokens = config["num_heads"], config["buffer_size"]
        self.grid = config["image_size"] // 2 ** (len(config.get("vae_ch_mult", [1, 1, 2, 2, 4])) - 1)
        self.passes = config.get("ar_steps", 4) if config["architecture"] == "transdiff-mrar" else 1

    def lin(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        return self.lin(name + ".fc2", gelu(self.lin(name + ".fc1", x)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        split = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=mask).transpose(1, 2).flatten(2)

    def features(self, classes: Tensor, latents: list[Tensor]) -> Tensor:
        """(R, D) class vectors and the latents (R, C, side, side) so far -> (R, condition tokens, D); nothing is cached."""
        w, rows = self.w, len(classes)
        masks = w["mask_token"].expand(rows, -1, -1)
        if self.passes == 1:
            masks = masks.expand(-1, w["diffusion_pos_embed_learned"].shape[1], -1)
        patches = [x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) for x in latents]
        h = torch.cat([classes[:, None].expand(-1, self.class_tokens, -1), masks] + [self.lin("z_proj", p) for p in patches], 1)
        h = self.norm("z_proj_ln", h + w["encoder_pos_embed_learned"][:, : h.shape[1]])
        block = (torch.arange(h.shape[1]) - self.class_tokens).div(masks.shape[1], rounding_mode="floor").clamp(min=-1)
        mask = block[None, :] <= block[:, None] if self.passes > 1 else None
        for i in range(self.config["transformer_blocks"]):
            p = f"encoder_blocks.{i}."
            h = h + self.lin(p + "attn.proj", self.attend(*self.lin(p + "attn.qkv", self.norm(p + "norm1", h)).chunk(3, -1), mask))
            h = h + self.mlp(p + "mlp", self.norm(p + "norm2", h))
        return self.norm("encoder_norm", h)[:, self.class_tokens :]

    def velocity(self, x: Tensor, z: Tensor, tau: Tensor) -> Tensor:
        w, p = self.w, "diffdecoder.net."
        angles = tau[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        e = self.lin(p + "time_embed.time_embedder.linear_1", torch.cat([angles.cos(), angles.sin()], -1))
        e = self.lin(p + "time_embed.time_embedder.linear_2", silu(e))
        activated = silu(e).bfloat16().float() if self.config["bf16_rounding_before_time_proj"] else silu(e)
        m = self.lin(p + "time_embed.time_proj", activated).unflatten(-1, (6, -1))
        h, c = self.lin(p + "input_proj", x) + w[p + "diffusion_pos_embed_learned"], self.lin(p + "cond_embed", z)
        for i in range(self.config["diffusion_blocks"]):
            b = f"{p}res_blocks.{i}."
            shift1, scale1, gate1, shift2, scale2, gate2 = (part[:, None] for part in (w[b + "scale_shift_table"] + m).unbind(1))
            qkv = self.lin(b + "attn1.qkv", self.norm(b + "norm1", h) * (1 + scale1) + shift1)
            h = h + gate1 * self.lin(b + "attn1.proj", self.attend(*qkv.chunk(3, -1)))
            q = self.lin(b + "attn2.wq", self.norm(b + "norm2", h))
            h = h + self.lin(b + "attn2.proj", self.attend(q, self.lin(b + "attn2.wk", c), self.lin(b + "attn2.wv", c)))
            h = h + gate2 * self.mlp(b + "mlp", self.norm(b + "norm3", h) * (1 + scale2) + shift2)
        shift, scale = (part[:, None] for part in (w[p + "final_layer.scale_shift_table"] + e[:, None]).unbind(1))
        return self.lin(p + "final_layer.linear", layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)

    def sample(self, labels: Tensor, noise: Tensor, eps: Tensor, steps: int, cfg: float, scale_0: float, scale_1: float) -> dict[str, Tensor]:
        w, out, latents = self.w, {}, []
        classes = w["class_emb.weight"][labels.long()]
        if cfg > 1:
            classes = torch.cat([classes, w["fake_latent"].expand_as(classes)])
        both = (lambda x: torch.cat([x, x])) if cfg > 1 else (lambda x: x)
        times = [1 - 0.96 * i / (steps - 1) for i in range(steps)] + [0.0]
        for i in range(self.passes):
            f = self.features(classes, [both(latent) for latent in latents])
            z = f + w["diffusion_pos_embed_learned"][:, : f.shape[1]]
            out[f"z{i}"] = f if self.passes > 1 else z
            x = noise[0]
            for k, (t, after) in enumerate(zip(times, times[1:])):
                v = self.velocity(both(x), z, torch.full((len(classes),), 1000 * t))
                drift = (2 - t) * v + both(x)
                if cfg > 1:
                    of_class, of_none = drift.chunk(2)
                    drift = of_none + cfg * (of_class - of_none)
                if after == 0.0:
                    x = x + (after - t) * drift
                else:
                    x = x + scale_0 * drift * (after - t) + scale_1 * math.sqrt(2 * t * (t - after)) * eps[i * (steps - 1) + k]
            latents.append(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        return out | {"latents": latents[-1]}


def decode(w: dict[str, Tensor], config: dict, z: Tensor) -> Tensor:
    """KL-16's decoder at any width and depth; z is the latent divided by vae_scale."""
    w = {name: tensor.float() for name, tensor in w.items()}
    conv = lambda name, x: conv2d(x, w[name + ".weight"], w[name + ".bias"], padding=w[name + ".weight"].shape[-1] // 2)
    norm = lambda name, x: group_norm(x, 32, w[name + ".weight"], w[name + ".bias"], 1e-6)

    def block(p: str, x: Tensor) -> Tensor:
        h = conv(p + "conv2", silu(norm(p + "norm2", conv(p + "conv1", silu(norm(p + "norm1", x))))))
        return h + (conv(p + "nin_shortcut", x) if p + "nin_shortcut.weight" in w else x)

    def attention(p: str, x: Tensor) -> Tensor:
        n = norm(p + "norm", x)
        q, k, v = (conv(p + name, n).flatten(2).transpose(1, 2) for name in "qkv")
        return x + conv(p + "proj_out", scaled_dot_product_attention(q, k, v).transpose(1, 2).unflatten(2, x.shape[2:]))

    h = conv("decoder.conv_in", conv("post_quant_conv", z))
    h = block("decoder.mid.block_2.", attention("decoder.mid.attn_1.", block("decoder.mid.block_1.", h)))
    for level in reversed(range(len(config["vae_ch_mult"]))):
        for i in range(config["vae_num_res_blocks"] + 1):
            h = block(f"decoder.up.{level}.block.{i}.", h)
        if level > 0:
            h = conv(f"decoder.up.{level}.upsample.conv", interpolate(h, scale_factor=2, mode="nearest"))
    return conv("decoder.conv_out", silu(norm("decoder.norm_out", h)))


def run(folder: Path, case: dict, fixtures: dict[str, Tensor]) -> list[Tensor]:
    config = json.loads((folder / "config.json").read_text())
    model, params = Model(read(folder / "model.safetensors"), config), case.get("params", {})
    if case["kind"] == "decoder_call":
        return [model.velocity(fixtures[case["x"]], fixtures[case["condition"]], fixtures[case["t_times_1000"]])]
    if case["kind"] == "class_to_latent":
        inputs = (fixtures[case[role]] for role in ("labels", "noise", "step_noise"))
        return list(model.sample(*inputs, params["steps"], params["cfg"], params["scale_0"], params["scale_1"]).values())
    vae = json.loads((folder / "manifest.json").read_text())["vae"]
    return [decode(read(folder / vae / "model.safetensors"), config, fixtures[case["latent"]][: case["rows"]] / params["divide_by"])]


def check(folder: Path) -> None:
    fixtures = read(folder / "fixtures.safetensors")
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        for (name, tolerance), got in zip(case["expect"].items(), run(folder, case, fixtures), strict=True):
            error = ((got - fixtures[name]).abs().max() / max(1.0, fixtures[name].abs().max())).item()
            print(f"{case['name']:40} {name:16} {error:.1e} of {tolerance:.0e}{'' if error <= tolerance else ' FAIL'}")


def bar(folder: Path) -> None:
    fixtures, tensors = read(folder / "fixtures.safetensors"), {}
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        with torch.autocast("cpu", torch.bfloat16):
            results = run(folder, case, fixtures)
        for name, got in zip(case["expect"], results, strict=True):
            tensors[name] = ((got.float() - fixtures[name]).norm() / fixtures[name].norm()).item()
    text = json.dumps({"what": "relative RMS error of PyTorch bfloat16 against the recorded float32 results", "torch": torch.__version__, "tensors": tensors}, indent=1)
    (folder / "bf16_bar.json").write_text(text + "\n")


CONFIG = {
    "architecture": "transdiff",
    "image_size": 16,
    "width": 16,
    "num_heads": 2,
    "transformer_blocks": 2,
    "diffusion_blocks": 2,
    "num_classes": 3,
    "buffer_size": 8,
    "vae_channels": 4,
    "vae_ch": 32,
    "vae_ch_mult": [1, 1],
    "vae_num_res_blocks": 1,
    "vae_scale": 0.2325,
    "sampling": {"steps": 5, "cfg": 1.5, "scale_0": 0.9, "scale_1": 0.95},
    "bf16_rounding_before_time_proj": False,
}
CONDITION_TOKENS = 12


def shapes() -> dict[str, tuple[int, ...]]:
    d, c, n = CONFIG["width"], CONFIG["vae_channels"], (CONFIG["image_size"] // 2) ** 2
    out: dict[str, tuple[int, ...]] = {
        "class_emb.weight": (CONFIG["num_classes"], d),
        "fake_latent": (1, d),
        "mask_token": (1, 1, d),
        "encoder_pos_embed_learned": (1, CONFIG["buffer_size"] + CONDITION_TOKENS, d),
        "diffusion_pos_embed_learned": (1, CONDITION_TOKENS, d),
        "diffdecoder.net.diffusion_pos_embed_learned": (1, n, d),
        "diffdecoder.net.final_layer.scale_shift_table": (1, 2, d),
    }
    layers = {"z_proj": (d, c), "diffdecoder.net.input_proj": (d, c), "diffdecoder.net.cond_embed": (d, d), "diffdecoder.net.final_layer.linear": (c, d)}
    time = "diffdecoder.net.time_embed."
    layers |= {time + "time_embedder.linear_1": (d, 256), time + "time_embedder.linear_2": (d, d), time + "time_proj": (6 * d, d)}
    norms = ["z_proj_ln", "encoder_norm"]
    for i in range(CONFIG["transformer_blocks"]):
        p = f"encoder_blocks.{i}."
        layers |= {p + "attn.qkv": (3 * d, d), p + "attn.proj": (d, d), p + "mlp.fc1": (4 * d, d), p + "mlp.fc2": (d, 4 * d)}
        norms += [p + "norm1", p + "norm2"]
    for i in range(CONFIG["diffusion_blocks"]):
        p = f"diffdecoder.net.res_blocks.{i}."
        out[p + "scale_shift_table"] = (1, 6, d)
        layers |= {p + "attn1.qkv": (3 * d, d), p + "mlp.fc1": (4 * d, d), p + "mlp.fc2": (d, 4 * d)}
        layers |= {p + name: (d, d) for name in ("attn1.proj", "attn2.wq", "attn2.wk", "attn2.wv", "attn2.proj")}
        norms += [p + "norm1", p + "norm2", p + "norm3"]
    for name, shape in layers.items():
        out |= {name + ".weight": shape, name + ".bias": shape[:1]}
    return out | {norm + end: (d,) for norm in norms for end in (".weight", ".bias")}


def draw(shapes_by_name: dict[str, tuple[int, ...]], random: torch.Generator) -> dict[str, Tensor]:
    """Norm weights about 1, matrices that keep the size of their input, everything else small."""
    out = {}
    for name, shape in shapes_by_name.items():
        x = torch.randn(shape, generator=random)
        fan_in = math.prod(shape[1:]) if len(shape) in (2, 4) and name.endswith(".weight") else 0
        out[name] = x / math.sqrt(fan_in) if fan_in else 1 + 0.1 * x if "norm" in name and name.endswith(".weight") else 0.3 * x
    return out


def record(folder: Path) -> None:
    random = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    write(folder / "model.safetensors", {name: tensor.bfloat16() for name, tensor in draw(shapes(), random).items()})
    d, c, n, steps = CONFIG["width"], CONFIG["vae_channels"], (CONFIG["image_size"] // 2) ** 2, CONFIG["sampling"]["steps"]
    normal = lambda *shape: torch.randn(shape, generator=random)
    fixtures = {"labels": torch.tensor([2.0, 0.0]), "noise": normal(1, 2, n, c), "eps": normal(steps - 1, 2, n, c)}
    fixtures |= {"net_x": normal(2, n, c), "net_c": normal(2, 9, d), "net_t": torch.tensor([1000.0, 377.25])}
    sampling = {"name": "sampling", "kind": "class_to_latent", "labels": "labels", "noise": "noise", "step_noise": "eps", "params": CONFIG["sampling"]}
    vae = {"name": "vae decode of latents[0]", "kind": "vae_decode", "latent": "latents", "rows": 1, "params": {"divide_by": CONFIG["vae_scale"]}}
    cases = [
        {"name": "decoder call", "kind": "decoder_call", "x": "net_x", "condition": "net_c", "t_times_1000": "net_t", "expect": {"net_v": 1e-5}},
        sampling | {"expect": {"z0": 1e-5, "latents": 5e-5}},
        vae | {"expect": {"vae_out_row0": 5e-5}},
    ]
    manifest = {"family": "transdiff", "vae": VAE, "tolerance": "|a - b| <= tol * max(1, max|expected|)", "cases": cases}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for case in cases:
        fixtures |= dict(zip(case["expect"], run(folder, case, fixtures), strict=True))
    write(folder / "fixtures.safetensors", fixtures)


if __name__ == "__main__":
    with torch.no_grad():
        match sys.argv[1:]:
            case ["record"]:
                record(HERE / "transdiff-one-pass")
            case ["bar", folder]:
                bar(Path(folder))
            case ["check", folder]:
                check(Path(folder))
            case _:
                sys.exit(__doc__)
