"""Mix-n-Match sizes of an E4B-topology model and the slicing of a checkpoint.

Sources: the published table google/gemma3n-slicing-configs and the recipe of Google's
MatFormer Lab notebook.
"""

# Five letters per block of five layers: h half width, F full width, - skipped.
PUBLISHED = {
    "e2b": "hhhhh hhhhh hhhhh hhhhh ----- hhhhh hhhhh",
    "e1.96b-layer": "hhhhF hhhhh hhhhh hhhhh ----- hhhhh hhhhh",
    "e2.49b-block": "hhhhh hhhhh hhhhh hhhhh FFFFF hhhhh hhhhh",
    "e2.54b-layer": "hhhhF hhhhh hhhhh hhhhh FFFFF hhhhh hhhhh",
    "e2.69b-layer": "hhhhF hhhhF hhhhF hhhhF FFFFF hhhhh hhhhh",
    "e2.73b-block": "hhhhh hhhhh hhhhh FFFFF FFFFF hhhhh hhhhh",
    "e2.98b-layer": "hhhhh hhhhh hhhhh FFFFF FFFFF hhhhh FFFFF",
    "e2.98b-block": "hhhhh hhhhh FFFFF FFFFF FFFFF hhhhh hhhhh",
    "e3.18b-layer": "hhhhF hhhhF FFFFF FFFFF FFFFF hhhhF hhhhF",
    "e3.24b-block": "hhhhh hhhhh FFFFF FFFFF FFFFF FFFFF hhhhh",
    "e3.39b-layer": "hhhhF hhhhF FFFFF FFFFF FFFFF FFFFF hhhhF",
    "e3.49b-block": "hhhhh FFFFF FFFFF FFFFF FFFFF FFFFF hhhhh",
    "e3.59b-layer": "hhhhF FFFFF FFFFF FFFFF FFFFF FFFFF hhhhF",
    "e3.79b-block": "hhhhh FFFFF FFFFF FFFFF FFFFF FFFFF FFFFF",
    "e3.79b-layer": "hhhhF FFFFF FFFFF FFFFF FFFFF FFFFF FFFFF",
    "e4b": "FFFFF FFFFF FFFFF FFFFF FFFFF FFFFF FFFFF",
}


def widths(name, ffn):
    """The 35 feed-forward widths of a published size; 0 means the layer is skipped."""
    return [{"h": ffn // 2, "F": ffn, "-": 0}[letter] for letter in PUBLISHED[name].replace(" ", "")]


def slice_config(text, size):
    """The text config of a slice."""
    kept = [n for n, width in enumerate(size) if width]
    first_shared = text["num_hidden_layers"] - text["num_kv_shared_layers"]
    out = dict(text, num_hidden_layers=len(kept), intermediate_size=[size[n] for n in kept])
    out["num_kv_shared_layers"] = sum(n >= first_shared for n in kept)
    for key in ("layer_types", "activation_sparsity_pattern"):
        out[key] = [text[key][n] for n in kept]
    return out


def slice_tensors(tensors, size, prefix="model.language_model."):
    """The tensors of a slice: kept layers renumbered, MLPs cut to their first neurons,
    the two layer-major per-layer tables reduced to the kept layers."""
    kept = [n for n, width in enumerate(size) if width]
    number = {n: i for i, n in enumerate(kept)}
    out = {}
    for name, value in tensors.items():
        short = name.removeprefix(prefix)
        if short.startswith("layers."):
            _, n, rest = short.split(".", 2)
            if int(n) not in number:
                continue
            if rest in ("mlp.gate_proj.weight", "mlp.up_proj.weight"):
                value = value[:size[int(n)]]
            elif rest == "mlp.down_proj.weight":
                value = value[:, :size[int(n)]]
            name = f"{prefix}layers.{number[int(n)]}.{rest}"
        elif short == "per_layer_model_projection.weight":
            value = value.reshape(len(size), -1, value.shape[1])[kept].reshape(-1, value.shape[1])
        elif short == "embed_tokens_per_layer.weight":
            value = value.reshape(value.shape[0], len(size), -1)[:, kept].reshape(value.shape[0], -1)
        out[name] = value.contiguous()
    return out
