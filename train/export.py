"""Stage 3: checkpoints -> a model folder in the released layout (bf16 EMA weights).

python export.py --data DIR --run runs/main --vae runs/vae/last.pt --tokenizer runs/tokenizer.json --out ../models/nextstep-emoji64
"""
import argparse
import json
import os
import shutil

import torch

import safetensors_io
import vae
from tokenizer import PromptTokenizer

SAMPLING = dict(sampler="B", timesteps=20, guidance_scale=2.5, timestep_shift=1.0, use_norm=True, guidance_schedule="constant",
                negative_prompt="", sizes=["64x64"])


def write_json(value, *path):
    with open(os.path.join(*path), "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def bf16(tensors):
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def config_of(config, tokenizer):
    ids = dict(boi=tokenizer.boi, eoi=tokenizer.eoi, image_placeholder_id=tokenizer.placeholder, pad_token_id_added=tokenizer.pad,
               bos_token_id=None, eos_token_id=tokenizer.end)
    return dict(config, **ids)


def copy_licences(source, out):
    for name in sorted(os.listdir(source)):
        if name == "NOTICE" or name.startswith("LICENSE"):
            shutil.copyfile(os.path.join(source, name), os.path.join(out, name))


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="the data folder, for its licences")
    parser.add_argument("--run", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--set", default="{}", help="JSON, over the sampling defaults that are there already")
    args = parser.parse_args(argv)
    os.makedirs(os.path.join(args.out, "vae"), exist_ok=True)
    state = torch.load(os.path.join(args.run, "last.pt"), map_location="cpu")
    safetensors_io.save(bf16(state["ema"]), os.path.join(args.out, "model.safetensors"))
    safetensors_io.save(bf16(torch.load(args.vae, map_location="cpu")["model"]), os.path.join(args.out, "vae", "model.safetensors"))
    write_json(config_of(state["config"], PromptTokenizer(args.tokenizer)), args.out, "config.json")
    write_json(vae.CONFIG, args.out, "vae", "config.json")
    shutil.copy(args.tokenizer, os.path.join(args.out, "tokenizer.json"))
    sampling_path = os.path.join(args.out, "sampling.json")
    before = json.load(open(sampling_path)) if os.path.exists(sampling_path) else {}
    write_json(dict(SAMPLING, **dict(before, **json.loads(args.set))), sampling_path)
    if args.data:
        copy_licences(args.data, args.out)
    print(f"{args.out}: step {state['step']}, {os.path.getsize(os.path.join(args.out, 'model.safetensors')) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
