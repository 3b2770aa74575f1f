"""What TransDiff's demo model is trained on: classes, and for each the pictures of its four passes.

A class is a popular concept with a 3d picture. The pictures of the reference passes are the same concept drawn in other styles, always in the same
order, so that every pass has one picture to draw: line drawing, cartoon, flat, and at last the 3d picture that was asked for.

python transdiff_data.py --data DIR --out ../models/transdiff-emoji64            writes classes.json
"""
import argparse
import json
import os

import data

# The style of each pass, and what stands in where a concept has none in the training part.
PASSES = (("mono", "flat", "noto", "blob"), ("noto", "blob", "flat"), ("flat", "noto", "blob"), ("3d",))
EXAMPLES = ("red apple", "cat face", "rocket", "pizza", "robot", "castle", "penguin", "guitar")


def class_rows(rows):
    """The 3d pictures that define the classes, in the order of the data."""
    seen, chosen = set(), []
    for row in rows:
        if row["popular"] and row["style"] == "3d" and not row["skin_tone"] and row["style_split"] == "train" and row["unicode"] not in seen:
            seen.add(row["unicode"])
            chosen.append(row)
    return chosen


def passes_of(rows):
    """-> per class four picture ids. Pictures of the same emoji in the training part only; without any other style, its 3d picture."""
    found = {(row["unicode"], row["style"]): row["id"] for row in reversed(rows) if not row["skin_tone"] and row["style_split"] == "train"}
    out = []
    for row in class_rows(rows):
        by_style = [[found.get((row["unicode"], style)) for style in styles] for styles in PASSES]
        out.append([next((i for i in ids if i is not None), row["id"]) for ids in by_style])
    return out


def synonyms(rows):
    """Per class the other bare captions, less articles and less those that another class has too."""
    names = [row["captions"][0] for row in rows]
    others = [[c for c in row["captions"][1:] if not c.startswith(("a ", "an ", "the ")) and "," not in c and not data.names_style(c)] for row in rows]
    counts = {}
    for caption in names + [c for own in others for c in dict.fromkeys(own)]:
        counts[caption] = counts.get(caption, 0) + 1
    return [[c for c in dict.fromkeys(own) if counts[c] == 1] for own in others]


def classes_json(rows):
    chosen = class_rows(rows)
    classes = []
    for index, (row, others) in enumerate(zip(chosen, synonyms(chosen))):
        classes.append(dict(index=index, name=row["captions"][0], synonyms=others, group=row["group"]))
    names = {entry["name"] for entry in classes}
    assert len(names) == len(classes), "two classes of one name"
    examples = [name for name in EXAMPLES if name in names] or [entry["name"] for entry in classes[:8]]
    return dict(version=1, classes=classes, default_prompt_examples=examples)


def write_classes(rows, folder):
    content = classes_json(rows)
    with open(os.path.join(folder, "classes.json"), "w") as file:
        entries = ",\n".join("  " + json.dumps(entry) for entry in content["classes"])
        file.write(f'{{\n "version": 1,\n "classes": [\n{entries}\n ],\n "default_prompt_examples": {json.dumps(content["default_prompt_examples"])}\n}}\n')


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    write_classes(data.load_rows(args.data), args.out)


if __name__ == "__main__":
    main()
