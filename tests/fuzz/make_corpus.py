#!/usr/bin/env python3
"""Writes the seed corpora of the container fuzzers: one small file per rule of the parsers.

    python3 tests/fuzz/make_corpus.py          # rewrites tests/fuzz/corpus/{gguf,safetensors}

Files named good_* must be accepted, bad_* refused with an error; src/storage/corpus_test.cc holds the parsers to that.
Most of the bad files are past failures of other readers (wrapping sums, lying counts, alignment 0, dimension bombs).
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
GGML_F32, GGML_Q4_0, GGML_REMOVED, GGML_UNKNOWN = 0, 2, 4, 999


def string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + scalar(kind, value)


def array(name, kind, values):
    return raw_array(name, kind, len(values), b"".join(scalar(kind, v) for v in values))


def raw_array(name, kind, count, payload=b""):
    return string(name) + struct.pack("<IIQ", ARRAY, kind, count) + payload


def tensor(name="t", dims=(32,), kind=GGML_F32, offset=0, n_dims=None):
    n_dims = len(dims) if n_dims is None else n_dims
    shape = struct.pack(f"<I{len(dims)}Q", n_dims, *dims)
    return string(name) + shape + struct.pack("<IQ", kind, offset)


def gguf(keys=(), tensors=(), data=b"", magic=b"GGUF", version=3, alignment=32, n_tensors=None, n_keys=None):
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    n_keys = len(keys) if n_keys is None else n_keys
    out = magic + struct.pack("<IQQ", version, n_tensors, n_keys) + b"".join(keys) + b"".join(tensors)
    if data:
        out += bytes(-len(out) % alignment) + data
    return out


def gguf_files():
    block = bytes(128)  # the data of one tensor of 32 floats
    one = dict(tensors=[tensor()], data=block)

    yield "good_empty", gguf()
    yield "good_one_tensor", gguf(**one)
    yield "good_version_2", gguf(version=2, **one)
    yield "good_every_type", gguf(
        [key(f"scalar.{k}", k, 1) for k in FORMATS] + [key("text", STRING, "caf\u00e9")]
        + [array(f"array.{k}", k, [0, 1, 1]) for k in FORMATS] + [array("texts", STRING, ["a", "", "b"])]
        + [array("empty", U32, [])])
    yield "good_sparsity_minus_infinity", gguf(
        [array("gemma3n.activation_sparsity_scale", F32, [1.6448534, float("-inf")])])
    yield "good_float_count", gguf([key("gemma3n.attention.shared_kv_layers", F32, 10.0)])
    yield "good_any_order_with_gaps", gguf(
        tensors=[tensor("late", offset=512), tensor("early", offset=0)], data=bytes(640))
    yield "good_alignment_64", gguf([key("general.alignment", U32, 64)], alignment=64, **one)
    yield "good_quantized", gguf(tensors=[tensor(dims=(64, 3), kind=GGML_Q4_0)], data=bytes(128))
    yield "good_vocabulary", gguf([array("tokenizer.ggml.tokens", STRING, ["a", "b"]),
                                   array("tokenizer.ggml.scores", F32, [0.0, -1.0]),
                                   key("tokenizer.ggml.bos_token_id", U32, 1)])
    yield "good_one_part", gguf([key("split.count", U16, 1)])

    yield "bad_empty_file", b""
    yield "bad_short_file", b"GGUF" + bytes(10)
    yield "bad_magic", gguf(magic=b"GGML")
    yield "bad_version_1", gguf(version=1)
    yield "bad_version_4", gguf(version=4)
    yield "bad_big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    yield "bad_tensor_count", gguf(n_tensors=2**63)
    yield "bad_tensor_count_wraps", gguf(n_tensors=2**64 // 41 + 1)
    yield "bad_tensor_count_limit", gguf(n_tensors=65_537, data=bytes(100))
    yield "bad_key_count", gguf(n_keys=2**63)
    yield "bad_key_count_too_many", gguf([key("a", U8, 1)], n_keys=2)
    yield "bad_key_empty", gguf([key("", U64, 1)])
    yield "bad_key_length_bomb", gguf([struct.pack("<Q", 2**63) + b"a" * 32], n_keys=1)
    yield "bad_key_too_long", gguf([key("k" * 65_536, U8, 1)])[:4096]
    yield "bad_key_not_utf8", gguf([key(b"\xff\xfe", U8, 1)])
    yield "bad_key_twice", gguf([key("a", U8, 1), key("a", U8, 2)])
    yield "bad_string_length_bomb", gguf([string("a") + struct.pack("<IQ", STRING, 2**62) + bytes(16)], n_keys=1)
    yield "bad_string_not_utf8", gguf([key("a", STRING, b"\xc3\x28")])
    yield "bad_value_type", gguf([string("a") + struct.pack("<I", 13) + bytes(16)], n_keys=1)
    yield "bad_bool_7", gguf([key("a", BOOL, 7)])
    yield "bad_bool_in_array", gguf([array("a", BOOL, [1, 0, 2])])
    yield "bad_float_nan", gguf([key("gemma3n.attention.layer_norm_rms_epsilon", F32, float("nan"))])
    yield "bad_float_infinite", gguf([key("gemma3n.rope.freq_base", F32, float("inf"))])
    yield "bad_sparsity_plus_infinity", gguf([array("gemma3n.activation_sparsity_scale", F32, [float("inf")])])
    yield "bad_array_bomb_43_bytes", gguf([raw_array("abc", U8, 2**63)])
    yield "bad_array_wraps", gguf([raw_array("abc", U64, 2**61)])
    yield "bad_array_of_strings_bomb", gguf([raw_array("abc", STRING, 2**40, bytes(64))])
    yield "bad_array_beyond_file", gguf([raw_array("abc", U64, 2**20, bytes(64))])
    yield "bad_array_of_strings_beyond_file", gguf([raw_array("abc", STRING, 2**20, bytes(64))])
    yield "bad_string_beyond_file", gguf([string("a") + struct.pack("<IQ", STRING, 2**20) + bytes(16)])
    yield "bad_array_nested", gguf([raw_array("abc", ARRAY, 1, struct.pack("<IQ", U8, 0) + bytes(32))])
    yield "bad_array_element_type", gguf([raw_array("abc", 77, 1, bytes(32))])
    yield "bad_alignment_type", gguf([key("general.alignment", U64, 32)])
    yield "bad_alignment_array", gguf([array("general.alignment", U32, [32])])
    for alignment in (0, 3, 4, 2**17, 2**31):
        yield f"bad_alignment_{alignment}", gguf([key("general.alignment", U32, alignment)], **one)
    yield "bad_split", gguf([key("split.count", U16, 3)])
    yield "bad_vocabulary_lengths", gguf([array("tokenizer.ggml.tokens", STRING, ["a", "b"]),
                                          array("tokenizer.ggml.scores", F32, [0.0])])
    yield "bad_vocabulary_special_id", gguf([array("tokenizer.ggml.tokens", STRING, ["a", "b"]),
                                             key("tokenizer.ggml.bos_token_id", U32, 2)])
    yield "bad_tensor_name_empty", gguf(tensors=[tensor("")], data=block)
    yield "bad_tensor_name_64", gguf(tensors=[tensor("n" * 64)], data=block)
    yield "bad_tensor_twice", gguf(tensors=[tensor(), tensor(offset=128)], data=block * 2)
    yield "bad_dims_0", gguf(tensors=[tensor(dims=())], data=block)
    yield "bad_dims_5", gguf(tensors=[tensor(dims=(1, 1, 1, 1, 32))], data=block)
    yield "bad_dims_2_to_31", gguf(tensors=[tensor(n_dims=2**31)], data=block)
    yield "bad_dim_zero", gguf(tensors=[tensor(dims=(32, 0))], data=block)
    yield "bad_dim_bomb", gguf(tensors=[tensor(dims=(2**42 + 1, 32))], data=block)
    yield "bad_dim_negative", gguf(tensors=[tensor(dims=(2**64 - 32,))], data=block)
    yield "bad_dims_wrap", gguf(tensors=[tensor(dims=(2**32, 2**32, 4))], data=block)
    yield "bad_dims_wrap_to_small", gguf(tensors=[tensor(dims=(2**40, 2**22, 32))], data=block)
    yield "bad_type_removed", gguf(tensors=[tensor(kind=GGML_REMOVED)], data=block)
    yield "bad_type_unknown", gguf(tensors=[tensor(kind=GGML_UNKNOWN)], data=block)
    yield "bad_type_negative", gguf(tensors=[tensor(kind=2**32 - 1)], data=block)
    yield "bad_row_not_whole_blocks", gguf(tensors=[tensor(dims=(33, 2), kind=GGML_Q4_0)], data=block)
    yield "bad_offset_unaligned", gguf(tensors=[tensor(dims=(8,), offset=8)], data=block)
    yield "bad_offset_outside", gguf(tensors=[tensor(offset=4096)], data=block)
    yield "bad_offset_wraps", gguf(tensors=[tensor(offset=2**64 - 32)], data=block)
    yield "bad_overlap", gguf(tensors=[tensor("a"), tensor("b", offset=96)], data=block * 2)
    yield "bad_overlap_same", gguf(tensors=[tensor("a"), tensor("b")], data=block)
    yield "bad_truncated_data", gguf(**one)[:-1]
    yield "bad_truncated_info", gguf(tensors=[tensor("a longer name")])[:-4]
    yield "bad_truncated_value", gguf([key("abcdefgh", U64, 1)])[:-4]


def safetensors(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(begin=0, end=8, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def safetensors_files():
    data = bytes(8)
    text = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    yield "good_empty", safetensors({})
    yield "good_one_tensor", safetensors({"a": entry()}, data)
    yield "good_metadata", safetensors({"__metadata__": {"format": "pt"}, "a": entry()}, data)
    yield "good_padded", safetensors(json.dumps({"a": entry()}) + "   ", data)
    yield "good_any_order", safetensors({"late": entry(8, 16), "early": entry(0, 8)}, data * 2)
    yield "good_scalar_and_empty", safetensors({"s": entry(0, 4, shape=()), "e": entry(4, 4, shape=(0, 3))}, bytes(4))
    yield "good_unknown_type", safetensors({"a": entry(dtype="X7")}, data)
    yield "good_four_bits", safetensors({"a": entry(0, 4, dtype="F4", shape=(8,))}, bytes(4))

    yield "bad_empty_file", b""
    yield "bad_short_file", bytes(7)
    yield "bad_length_limit", safetensors({}, length=100_000_001)
    yield "bad_length_wraps", safetensors({}, length=2**64 - 4)
    yield "bad_length_beyond_file", safetensors({}, length=64)
    yield "bad_header_empty", safetensors("")
    yield "bad_not_an_object", safetensors("[]")
    yield "bad_leading_space", safetensors(" {}")
    yield "bad_json", safetensors('{"a":')
    yield "bad_json_rest", safetensors("{}{}")
    yield "bad_zero_byte_ends_json", safetensors(b"{}\0garbage")
    yield "bad_not_utf8", safetensors(b'{"\xff":' + text.encode() + b"}", data)
    yield "bad_depth_bomb", safetensors('{"a":' + "[" * 2000 + "]" * 2000 + "}")
    yield "bad_depth_objects", safetensors('{"a":' * 1000 + "1" + "}" * 1000)
    yield "bad_name_twice", safetensors(f'{{"a":{text},"a":{text}}}', data)
    yield "bad_name_twice_escaped", safetensors(f'{{"a":{text},"\\u0061":{text}}}', data)
    yield "bad_field_twice", safetensors('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', data)
    yield "bad_metadata_twice", safetensors('{"__metadata__":{"k":"1","k":"2"}}')
    yield "bad_metadata_number", safetensors({"__metadata__": {"k": 1}})
    yield "bad_metadata_nested", safetensors({"__metadata__": {"k": {}}})
    yield "bad_field_missing", safetensors({"a": {"dtype": "F32", "shape": [2]}}, data)
    yield "bad_field_unknown", safetensors({"a": entry() | {"strides": [1]}}, data)
    yield "bad_tensor_is_a_number", safetensors({"a": 5})
    yield "bad_shape_negative", safetensors({"a": entry(shape=(-2,))}, data)
    yield "bad_shape_fraction", safetensors({"a": entry(shape=(2.0,))}, data)
    yield "bad_shape_string", safetensors({"a": entry(shape=("2",))}, data)
    yield "bad_shape_nested", safetensors({"a": entry(shape=([2],))}, data)
    yield "bad_shape_rank_9", safetensors({"a": entry(shape=(1,) * 8 + (2,))}, data)
    yield "bad_shape_wraps", safetensors({"a": entry(shape=(2**32, 2**32, 2))}, data)
    yield "bad_shape_wraps_to_size", safetensors({"a": entry(shape=(2**61 + 2,))}, data)
    yield "bad_shape_beyond_63_bits", safetensors({"a": entry(0, 0, shape=(0, 2**63))})
    yield "bad_unknown_type_wraps", safetensors({"a": entry(dtype="X7", shape=(2**40, 2**40))}, data)
    yield "bad_size", safetensors({"a": entry(shape=(3,))}, data)
    yield "bad_half_byte", safetensors({"a": entry(0, 1, dtype="F4", shape=(3,))}, bytes(1))
    yield "bad_offsets_one", safetensors({"a": entry() | {"data_offsets": [0]}}, data)
    yield "bad_offsets_three", safetensors({"a": entry() | {"data_offsets": [0, 8, 8]}}, data)
    yield "bad_offsets_reversed", safetensors({"a": entry(8, 0)}, data)
    yield "bad_offsets_outside", safetensors({"a": entry(8, 16)}, data)
    yield "bad_offsets_huge", safetensors({"a": entry(2**64 - 8, 2**64 - 1)}, data)
    yield "bad_hole", safetensors({"a": entry(), "b": entry(16, 24)}, bytes(24))
    yield "bad_hole_at_start", safetensors({"a": entry(8, 16)}, bytes(16))
    yield "bad_overlap", safetensors({"a": entry(), "b": entry(4, 12)}, bytes(12))
    yield "bad_same_range", safetensors({"a": entry(), "b": entry()}, data)
    yield "bad_rest", safetensors({"a": entry()}, bytes(9))
    yield "bad_truncated", safetensors({"a": entry()}, bytes(7))
    yield "bad_empty_with_data", safetensors({}, bytes(1))


def main():
    for folder, files in (("gguf", gguf_files()), ("safetensors", safetensors_files())):
        target = CORPUS / folder
        target.mkdir(parents=True, exist_ok=True)
        for stale in target.iterdir():
            stale.unlink()
        for name, content in files:
            path = target / name
            assert not path.exists(), name
            path.write_bytes(content)


if __name__ == "__main__":
    main()
