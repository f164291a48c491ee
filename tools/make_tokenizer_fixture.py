"""Cuts Gemma 3's tokenizer.json down to what the tests need, without changing the id of any tested text.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.1 sentencepiece==0.2.3
    venv/bin/python tools/make_tokenizer_fixture.py tokenizer.json tests/data/text

Reads tests/data/text/strings.json (texts with their ids) and writes beside it

    gemma_pieces.json   {"vocabulary_size": n, "pieces": {text: id}, "added": {text: [id, special]}}: single
                        characters, merged pieces and added tokens that the texts below go through, under their real ids
    inert.json          [{"text": t, "ids": [...]}]: texts in which control names are plain characters, by `tokenizers`
                        with the control tokens taken out of its list of added tokens
    small.model         a tokenizer.model trained and written by the sentencepiece package, with its turn tokens
                        USER_DEFINED as in Google's files
    small.json          the same for texts without control names, by the sentencepiece package

The tests fill the ids between with pieces that no text contains. Leaving pieces out keeps the ids of these texts:
byte-pair merging takes the best pair at every step, and every piece that is taken at some step is kept, so the best of
the whole vocabulary is also the best of the part.
"""

import copy
import heapq
import io
import json
import pathlib
import re
import sys

import sentencepiece
import tokenizers

SPACE = "\u2581"
CONTROL = re.compile(r"<pad>|<eos>|<bos>|<unk>|<mask>|\[multimodal\]|<start_of_\w+>|<end_of_\w+>|<\w+_soft_token>|"
                     r"<unused\d+>")

INERT_TEXTS = [
    "Hi<end_of_turn>", "<start_of_turn>user\nIgnore that.<end_of_turn>\n<start_of_turn>model\n",
    "<bos>x<eos>y<pad>z<unk>w<mask>v[multimodal]", "<start_of_image> <end_of_image><image_soft_token>",
    "<start_of_audio><audio_soft_token><end_of_audio>", "<unused0><unused98><unused99> <unused6241>",
    "<start_of_turn <end_of_turn> > <<start_of_turn>>", "a <b>bold</b> <end_of_turn>\n\n\t\tx", "<end_of_turn>" * 3,
    "\u2581\u2581<bos>\u2581\u2581", "<|im_start|>system", "The quick brown fox<eos> jumps over the lazy dog.",
]

# Texts the tests name with their ids, and parts of chats that only come up between control tokens.
OTHER_TEXTS = [
    "Hello, world!", "  two leading spaces", "a   b\tc\t\td", "line1\nline2\n\n\nline4", "1234567890 3.14159",
    "def f(x):\n    return x**2  # sq\n", "naïve café 東京 한국어 العربية हिन्दी", "𐍈 Gothic", "\u2581literal",
    "xxx" + " " * 40 + "y", "I'm can't HTTPServerError",
    "user\n", "model\n", "user\n\n\n", "\n", "\n\n", "\n\n\n\n", "user\nHi", "user\nYou are a helpful assistant.\n\nHi",
    "user\nWhat is 2+2?", "model\n4", "user\nAnd 3+3?", "\n\nWhat is shown in this image?",
    "user\nYou are a helpful assistant.\n\n\n\n", "user\nTranscribe the following speech segment in English:\n\n",
]


class Merger:
    """Byte-pair merging of one segment; remembers every piece that came up."""

    def __init__(self, vocab, mergeable):
        self.vocab, self.mergeable, self.used = vocab, mergeable, set()

    def encode(self, segment):
        # Runs of spaces come before all other merges, the longest first from the left.
        symbols = re.findall(SPACE + "{2,31}|.", segment.replace(" ", SPACE), re.DOTALL)
        self.used.update(s for s in symbols if s in self.vocab)
        left, right = list(range(-1, len(symbols) - 1)), list(range(1, len(symbols) + 1))
        heap = []

        def push(a):
            b = right[a]
            if a >= 0 and b < len(symbols) and symbols[a] + symbols[b] in self.mergeable:
                merged = symbols[a] + symbols[b]
                heapq.heappush(heap, (self.mergeable[merged], a, merged))

        for i in range(len(symbols) - 1):
            push(i)
        while heap:
            _, a, merged = heapq.heappop(heap)
            b = right[a]
            if symbols[a] is None or b >= len(symbols) or symbols[a] + symbols[b] != merged:
                continue
            self.used.add(merged)
            symbols[a], symbols[b], right[a] = merged, None, right[b]
            if right[a] < len(symbols):
                left[right[a]] = a
            push(left[a])
            push(a)
        ids = []
        for s in (s for s in symbols if s is not None):
            ids += [self.vocab[s]] if s in self.vocab else [self.vocab[f"<0x{b:02X}>"] for b in s.encode()]
        return ids


def split_added(text, added):
    """Leftmost longest: [(part, is_added)]."""
    pattern = re.compile("|".join(re.escape(t) for t in sorted(added, key=len, reverse=True)))
    at = 0
    for m in pattern.finditer(text):
        if m.start() > at:
            yield text[at:m.start()], False
        yield m.group(), True
        at = m.end()
    if at < len(text):
        yield text[at:], False


def encode(text, merger, added):
    ids = []
    for part, is_added in split_added(text, added):
        ids += [merger.vocab[part]] if is_added else merger.encode(part)
        merger.used.add(part) if is_added else None
    return ids


def write_small_model(texts, out):
    """A SentencePiece model with the kinds of pieces Gemma's has, learned from `texts`."""
    symbols = ["[multimodal]", "<start_of_turn>", "<end_of_turn>", "<table>", "\n", "\n\n", "\t", SPACE * 2, SPACE * 3]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(t for t in texts if t.isascii()), model_writer=model, model_type="bpe", vocab_size=420,
        byte_fallback=True, character_coverage=0.99, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, user_defined_symbols=symbols, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", num_threads=1, minloglevel=2)
    (out / "small.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    cases = [{"text": t, "ids": processor.encode(t)} for t in texts[:60]]
    (out / "small.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")


def main():
    source, out = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    vocab = source["model"]["vocab"]
    added = {t["content"]: t for t in source["added_tokens"]}
    merger = Merger(vocab | {t: a["id"] for t, a in added.items()},
                    {p: i for p, i in vocab.items() if p not in added and len(p) > 1})
    inert = copy.deepcopy(source)
    inert["added_tokens"] = [t for t in source["added_tokens"] if not CONTROL.fullmatch(t["content"])]
    reference = tokenizers.Tokenizer.from_str(json.dumps(inert))
    inert_added = {t: a for t, a in added.items() if not CONTROL.fullmatch(t)}

    strings = json.loads((out / "strings.json").read_text())["cases"]
    plain = [c["text"] for c in strings if not re.search("[\u2581<\\[]", c["text"]) and 0 < len(c["text"]) < 80]
    write_small_model(plain, out)
    for case in strings:
        assert encode(case["text"], merger, added) == case["ids"], case["text"]
        # The same text must also come through with control names inert.
        assert encode(case["text"], merger, inert_added) == reference.encode(case["text"], add_special_tokens=False).ids
    cases = []
    for text in INERT_TEXTS + OTHER_TEXTS:
        ids = reference.encode(text, add_special_tokens=False).ids
        assert encode(text, merger, inert_added) == ids, text
        cases.append({"text": text, "ids": ids})
    (out / "inert.json").write_text(json.dumps(cases[:len(INERT_TEXTS)], ensure_ascii=True, indent=0) + "\n")

    # Text-like added tokens are few; of <unusedN> only what the texts name.
    keep = {t: [a["id"], a["special"]] for t, a in added.items() if not t.startswith("<unused") or t in merger.used}
    pieces = {p: i for p, i in sorted(vocab.items(), key=lambda x: x[1])
              if p not in added and (p in merger.used or re.fullmatch("<0x..>", p))}
    fixture = {"vocabulary_size": len(vocab), "pieces": pieces, "added": keep}
    (out / "gemma_pieces.json").write_text(
        json.dumps(fixture, ensure_ascii=False, separators=(",", ":")).replace('"pieces":', '\n"pieces":')
        .replace('"added":', '\n"added":') + "\n")
    print(len(pieces), "pieces,", len(keep), "added tokens")


main()
