"""Checkpoints -> a TransDiff model folder (bf16 EMA weights, names and layouts of the released ones).

python transdiff_export.py --data DIR --run runs/transdiff --vae runs/kl/last.pt --out ../models/transdiff-emoji64
"""
import argparse
import json
import os

import torch

import data
import safetensors_io
import transdiff_data
import transdiff_model as transdiff
import vae
from export import bf16, copy_licences, write_json

SAMPLING = dict(timesteps=4, guidance_scale=1.0, scale_0=1.0, scale_1=1.0, sizes=["64x64"])


def config_of(config, autoencoder, sampling):
    """config.json: the network's shape, the autoencoder's, and the sampling defaults under the names of the released models' folders."""
    v = autoencoder.config
    sizes = dict(vae_channels=v["z_channels"], vae_ch=v["ch"], vae_ch_mult=v["ch_mult"], vae_num_res_blocks=v["num_res_blocks"])
    return dict(config, **sizes, sampling=dict(steps=sampling["timesteps"], cfg=sampling["guidance_scale"], scale_0=sampling["scale_0"], scale_1=sampling["scale_1"]))


def write_weights(network, autoencoder, folder, sampling):
    os.makedirs(os.path.join(folder, "vae"), exist_ok=True)
    safetensors_io.save(bf16(network.state_dict()), os.path.join(folder, "model.safetensors"))
    safetensors_io.save(bf16(autoencoder.released()), os.path.join(folder, "vae", "model.safetensors"))
    write_json(config_of(network.config, autoencoder, sampling), folder, "config.json")
    write_json(dict(sampling, sizes=[f"{network.config['image_size']}x{network.config['image_size']}"]), folder, "sampling.json")


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--set", default="{}", help="JSON, over the sampling defaults that are there already")
    args = parser.parse_args(argv)
    state = torch.load(os.path.join(args.run, "last.pt"), map_location="cpu")
    network = transdiff.TransDiff(state["config"])
    network.load_state_dict(state["ema"])
    sampling_path = os.path.join(args.out, "sampling.json")
    before = json.load(open(sampling_path)) if os.path.exists(sampling_path) else {}
    write_weights(network, vae.load(args.vae), args.out, dict(SAMPLING, **dict(before, **json.loads(args.set))))
    transdiff_data.write_classes(data.load_rows(args.data), args.out)
    copy_licences(args.data, args.out)
    size = sum(os.path.getsize(os.path.join(args.out, *name)) for name in (("model.safetensors",), ("vae", "model.safetensors")))
    print(f"{args.out}: step {state['step']}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
