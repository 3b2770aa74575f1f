"""The emoji64 set: pictures, captions, and which of them to draw how often.

A picture is (64, 64, 3) uint8 over white; a row is one line of captions.jsonl (fields: that folder's README).
"""
import collections
import json
import os

import numpy as np
from PIL import Image

STYLES = ("3d", "flat", "noto", "blob", "mono")


def load_rows(folder):
    with open(os.path.join(folder, "captions.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def load_pictures(folder, count, tile=64):
    """-> (count, tile, tile, 3) uint8. Sheets rgb_00.png ... are 2048 px wide, tiles in row order."""
    tiles, sheet = [], 0
    while len(tiles) < count:
        pixels = np.asarray(Image.open(os.path.join(folder, f"rgb_{sheet:02d}.png")).convert("RGB"))
        tiles += [pixels[y:y + tile, x:x + tile]
                  for y in range(0, pixels.shape[0], tile) for x in range(0, pixels.shape[1], tile)]
        sheet += 1
    return np.stack(tiles[:count])


def load(folder):
    rows = load_rows(folder)
    return rows, load_pictures(folder, len(rows))


def train_ids(rows):
    """style_split: a known concept in a held-out style is what FD's reference asks for."""
    return [i for i, row in enumerate(rows) if row["style_split"] == "train"]


def captions_of(row):
    """(caption, weight) pairs. Captions that name no style belong to the default style, 3d, only.

    The two forms that people type, the bare name and "name, 3d style", get most of the weight.
    """
    pairs = []
    for index, caption in enumerate(row["captions"]):
        if not names_style(caption) and row["style"] != "3d":
            continue
        if index == 0 or caption == f"{row['captions'][0]}, {style_words(row)}":
            weight = 4.0
        elif "white background" in caption or "related to" in caption or " colors, " in caption:
            weight = 0.3
        else:
            weight = 1.0
        pairs.append((caption, weight))
    return pairs


def names_style(caption):
    return any(word in caption for word in (" style", " emoji of", " picture of", "drawing of"))


def style_words(row):
    return "black and white style" if row["style"] == "mono" else f"{row['style']} style"


def sampling_weights(rows, popular_boost=1.0, rest=1.0, style_weights=None):
    """One weight a row: every base concept counts the same, popular ones `popular_boost` times,
    the others `rest` times, symbols and flags half; inside a concept by style.

    rows: the rows that may be drawn. style_weights: {style: weight}.
    """
    style_weights = style_weights or {style: 1.0 for style in STYLES}
    popular_bases = {row["base"] for row in rows if row["popular"]}
    key = lambda row: (row["base"], row["style"], main_picture(row, popular_bases))
    counts = collections.Counter(map(key, rows))
    weights = []
    for row in rows:
        weight = style_weights[row["style"]] / counts[key(row)]
        weight *= popular_boost if row["base"] in popular_bases else rest
        if not main_picture(row, popular_bases):
            weight *= 0.3
        if row["group"] in ("symbols", "flags") and not row["popular"]:
            weight *= 0.5
        weights.append(weight)
    weights = np.asarray(weights, np.float64)
    return weights / weights.sum()


def main_picture(row, popular_bases):
    """False for the skin tones and rarer variants of a popular concept."""
    return row["base"] not in popular_bases or (row["popular"] and not row["skin_tone"])
