"""A small byte-level BPE in Qwen2's shape: same splitting pattern (single digits, so that 8*8 never merges), own vocabulary.

python tokenizer.py --data DIR --out tokenizer.json
"""
import argparse

import data

PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["[PAD]", "<|image_area|>", "<|begin_of_image|>", "<|end_of_image|>", "<|image_placeholder|>", "<|endoftext|>"]
VOCAB_SIZE = 2048


def train(texts, vocab_size=VOCAB_SIZE):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])   # captions are lower-case
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return tokenizer


class PromptTokenizer:
    """tokenizer.json -> the ids of a prompt as nextstep.md section 5.2 lays them out."""

    def __init__(self, path):
        from tokenizers import Tokenizer
        self.tokenizer = Tokenizer.from_file(path)
        self.pad, self.boi, self.eoi, self.placeholder, self.end = (self.tokenizer.token_to_id(SPECIAL[i]) for i in (0, 2, 3, 4, 5))
        self.vocab_size = self.tokenizer.get_vocab_size()

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def area(self, h, w):
        return self.encode(f"<|image_area|>{h}*{w}") + [self.boi]

    def prompt(self, caption, h=8, w=8):
        return self.encode(caption) + self.area(h, w)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    texts = []
    for row in data.load_rows(args.data):
        for caption, weight in data.captions_of(row):
            texts += [caption] * (4 if weight > 1 and row["popular"] else 1)
    train(texts).save(args.out)
    print({text: PromptTokenizer(args.out).prompt(text) for text in ("red apple", "red apple, 3d style", "")})


if __name__ == "__main__":
    main()
