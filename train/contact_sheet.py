"""The 40 prompts of eval_prompts.txt, of a model of classes the 40 names of eval_classes.txt, drawn and labelled: docs/contact-sheet.png.

python contact_sheet.py --model ../models/nextstep-emoji64 --out ../docs/contact-sheet.png      (--pictures DIR: DIR/<i>.png drawn elsewhere)
"""
import argparse
import os
import textwrap

import numpy as np

from quality import pipeline_of
from sample import read_prompts

HERE = os.path.dirname(os.path.abspath(__file__))
SIDE, MARGIN, LABEL = 128, 8, 34                      # pixels; pictures are shown at twice their size


def labelled_sheet(prompts, pictures, columns=8):
    from PIL import Image, ImageDraw
    rows = -(-len(prompts) // columns)
    canvas = Image.new("RGB", (columns * (SIDE + MARGIN) + MARGIN, rows * (SIDE + LABEL) + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (prompt, picture) in enumerate(zip(prompts, pictures)):
        x, y = MARGIN + i % columns * (SIDE + MARGIN), MARGIN + i // columns * (SIDE + LABEL)
        canvas.paste(Image.fromarray(picture).resize((SIDE, SIDE), Image.BICUBIC), (x, y))
        draw.text((x, y + SIDE + 2), "\n".join(textwrap.wrap(prompt, 22)[:2]), fill=(60, 60, 60))
    return canvas


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures")
    parser.add_argument("--prompts", help="a file; by default eval_prompts.txt, of a model of classes eval_classes.txt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    from PIL import Image
    classes = os.path.exists(os.path.join(args.model, "classes.json"))
    prompts = read_prompts(args.prompts or os.path.join(HERE, "eval_classes.txt" if classes else "eval_prompts.txt"))
    if args.pictures:
        pictures = [np.asarray(Image.open(os.path.join(args.pictures, f"{i}.png")).convert("RGB")) for i in range(len(prompts))]
    else:
        pictures = pipeline_of(args.model, None).draw(prompts, [args.seed] * len(prompts))
    labelled_sheet(prompts, pictures).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
