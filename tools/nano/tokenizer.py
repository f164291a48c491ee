"""Trains nano's SentencePiece tokenizer and lays its ids out as Gemma 3n does, scaled down.

    0..3        <pad> <eos> <bos> <unk>
    4..104      <mask> [multimodal] <unused0>..<unused98>
    105 106     <start_of_turn> <end_of_turn>
    107..167    newline x 1..31, space x 2..31
    168..237    HTML tags (`<table>`, `</h1>`, ...)
    238..493    the bytes <0x00>..<0xFF>
    494..       merged pieces in merge order, then single characters
    V-33..V-3   tab x 1..31
    V-2  V-1    <start_of_image> <start_of_audio>, the last ids of the text vocabulary V
    V..         128 vision ids, the first <end_of_image> and <image_soft_token>
    V+128..     128 audio ids, the first <end_of_audio> and <audio_soft_token>

Written: `tokenizer.model` (SentencePiece) and `tokenizer.json` (tokenizers), which agree.
"""

import io
import json

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as proto

SPACE = "\u2581"
START, END = 105, 106
FIRST_MERGE = 494
TAIL = 33


def html_tags():
    groups = ("table caption thead tbody tfoot tr th td", "h1 h2 h3 h4 h5 h6 blockquote",
              "strong em b i u s sub sup code", "a html body img span bbox ul li div iframe footer")
    return [f"<{end}{tag}>" for group in groups for end in ("", "/") for tag in group.split()]


def head_pieces():
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]"]
    pieces += [f"<unused{i}>" for i in range(99)] + ["<start_of_turn>", "<end_of_turn>"]
    pieces += ["\n" * n for n in range(1, 32)] + [SPACE * n for n in range(2, 32)] + html_tags()
    pieces += [f"<0x{b:02X}>" for b in range(256)]
    assert len(pieces) == FIRST_MERGE
    return pieces


def tail_pieces(tower_vocab):
    tabs = ["\t" * n for n in range(1, 32)] + ["<start_of_image>", "<start_of_audio>"]
    vision = ["<end_of_image>", "<image_soft_token>"] + [f"<unused{i}>" for i in range(99, 97 + tower_vocab)]
    first = 97 + tower_vocab
    audio = ["<end_of_audio>", "<audio_soft_token>"] + [f"<unused{i}>" for i in range(first, first + tower_vocab - 2)]
    return tabs + vision + audio


def learn_pieces(lines, count, required):
    """SentencePiece BPE over `lines`: merged pieces in merge order, then single characters."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe",
        vocab_size=count + 259, character_coverage=1.0, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        required_chars=required, max_sentence_length=100000, num_threads=1, minloglevel=2)
    trained = proto.ModelProto.FromString(model.getvalue())
    normal = [p.piece for p in trained.pieces if p.type == proto.ModelProto.SentencePiece.NORMAL]
    return [p for p in normal if len(p) > 1] + [p for p in normal if len(p) == 1]


def build_proto(pieces, text_end):
    """A SentencePiece model with exactly these pieces; `text_end` is the first id after the learned ones."""
    kind = proto.ModelProto.SentencePiece
    model = proto.ModelProto()
    for i, piece in enumerate(pieces):
        row = model.pieces.add(piece=piece, score=0.0)
        if i < 3:
            row.type = kind.CONTROL
        elif i == 3:
            row.type = kind.UNKNOWN
        elif 238 <= i < FIRST_MERGE:
            row.type = kind.BYTE
        elif i < FIRST_MERGE or i >= text_end:
            row.type = kind.USER_DEFINED
        else:
            row.type, row.score = kind.NORMAL, -float(i - FIRST_MERGE)
    t, n = model.trainer_spec, model.normalizer_spec
    t.model_type = proto.TrainerSpec.BPE
    t.vocab_size, t.byte_fallback, t.split_digits = len(pieces), True, True
    t.pad_id, t.eos_id, t.bos_id, t.unk_id = 0, 1, 2, 3
    t.pad_piece, t.eos_piece, t.bos_piece, t.unk_piece = pieces[:4]
    n.name, n.add_dummy_prefix, n.remove_extra_whitespaces, n.escape_whitespaces = "identity", False, False, True
    return model.SerializeToString(deterministic=True)


def merges(pieces, text_end):
    """Runs of spaces first, then every split of every merged piece in id order.

    A run grows by one space at a time and the longest run merges first, which cuts forty
    spaces into 31 and 9, as SentencePiece's longest match does.
    """
    runs = [[SPACE * n, SPACE] for n in range(30, 0, -1)]
    known = set(pieces[FIRST_MERGE:text_end])
    return runs + [[p[:k], p[k:]] for p in pieces[FIRST_MERGE:text_end]
                   for k in range(1, len(p)) if p[:k] in known and p[k:] in known]


def is_special(piece):
    return piece in ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>") or \
        piece.endswith(("_of_image>", "_of_audio>", "_soft_token>"))


def build_json(pieces, text_end):
    """The same tokenizer in the format of the `tokenizers` package."""
    added = [i for i in range(len(pieces)) if i < 238 or i >= text_end]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": is_special(pieces[i])} for i in added],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                          "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<bos>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {p: i for i, p in enumerate(pieces)}, "merges": merges(pieces, text_end)},
    }


def tokenizer_config(pieces):
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
             "boa_token": "<start_of_audio>", "eoa_token": "<end_of_audio>", "audio_token": "<audio_soft_token>"}
    return {"add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>",
            "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "clean_up_tokenization_spaces": False,
            "extra_special_tokens": names, "model_max_length": 32768, "padding_side": "left",
            "tokenizer_class": "GemmaTokenizer"}


def train_tokenizer(lines, out, text_vocab, tower_vocab):
    """Learns the pieces from `lines` and writes the three tokenizer files to `out`."""
    text_end = text_vocab - TAIL
    # Printable ASCII is always a piece of its own, whatever the generator happens to use.
    required = "".join(map(chr, range(33, 127)))
    pieces = head_pieces() + learn_pieces(lines, text_end - FIRST_MERGE, required) + tail_pieces(tower_vocab)
    assert len(pieces) == text_vocab + 2 * tower_vocab == len(set(pieces)), (len(pieces), len(set(pieces)))
    (out / "tokenizer.model").write_bytes(build_proto(pieces, text_end))
    dump = {"tokenizer.json": build_json(pieces, text_end), "tokenizer_config.json": tokenizer_config(pieces)}
    for name, content in dump.items():
        (out / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def load(path):
    return spm.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))


def encode_document(sp, pieces):
    """[(text, is_answer)] -> ids with a leading bos, and for every id whether it is answer."""
    ids, answer = [2], [False]
    for text, flag in pieces:
        new = sp.encode(text)
        ids += new
        answer += [flag] * len(new)
    return ids, answer
