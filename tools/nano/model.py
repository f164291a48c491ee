"""The text part of Gemma 3n in functional PyTorch, for training.

It computes what transformers' `Gemma3nForCausalLM` computes (`test_nano.py`
compares the two), with three liberties that training needs: any MatFormer size runs on
the one set of parameters, several documents share a row behind a block mask, and one
layer is one function of plain tensors, so that `torch.compile` builds a few kernels and
not thirty-five.

Letters in shapes: B rows, T tokens per row, D model width, H heads, G KV heads, K head
width, F feed-forward width, L layers, P per-layer width, S AltUp streams.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

EPS = 1e-6
# Phi^-1(0.95), what torch's float32 icdf returns.
SPARSE_Z = 1.6448533535003662
# The layer whose attention can be watched: the last one with full attention that leaves time to use what it fetched
# (E2B has no layer 24).
WATCHED = 29


@dataclass(frozen=True)
class Shape:
    """E4B's topology (35 layers, first 20 own K/V, 10 sparse) at nano's widths."""

    layers: int = 35
    own_kv: int = 20
    sparse: int = 10
    width: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 384
    ple: int = 32
    laurel: int = 16
    streams: int = 4
    window: int = 64
    text_vocab: int = 1536
    tower_vocab: int = 128
    vision_width: int = 64
    audio_width: int = 48

    @property
    def vocab(self):
        return self.text_vocab + 2 * self.tower_vocab

    def full_attention(self, layer):
        return (layer + 1) % 5 == 0

    def kv_source(self, layer):
        """The layer whose K and V this one reads (itself below `own_kv`)."""
        if layer < self.own_kv:
            return layer
        return max(j for j in range(self.own_kv)
                   if self.full_attention(j) == self.full_attention(layer))


def parameter_shapes(s):
    """Published tensor names (without prefix) and their shapes."""
    d, p = s.width, s.ple
    shapes = {
        "embed_tokens.weight": (s.vocab, d),
        "embed_tokens_per_layer.weight": (s.text_vocab, s.layers * p),
        "per_layer_model_projection.weight": (s.layers * p, d),
        "per_layer_projection_norm.weight": (p,),
        "norm.weight": (d,),
    }
    for i in range(s.streams - 1):
        shapes[f"altup_projections.{i}.weight"] = (d, d)
        shapes[f"altup_unembed_projections.{i}.weight"] = (d, d)
    for n in range(s.layers):
        for name, shape in layer_shapes(s, n).items():
            shapes[f"layers.{n}.{name}"] = shape
    return shapes


def embedder_shapes(s):
    """The two multimodal embedders: embed_vision.* and embed_audio.*."""
    shapes = {}
    for kind, width in (("vision", s.vision_width), ("audio", s.audio_width)):
        shapes[f"embed_{kind}.embedding.weight"] = (s.tower_vocab, width)
        shapes[f"embed_{kind}.hard_embedding_norm.weight"] = (width,)
        shapes[f"embed_{kind}.soft_embedding_norm.weight"] = (width,)
        shapes[f"embed_{kind}.embedding_projection.weight"] = (s.width, width)
    return shapes


def layer_shapes(s, layer):
    """The tensors of one layer; layers that share K/V have no k_proj, v_proj, k_norm."""
    d = s.width
    shapes = {
        "altup.modality_router.weight": (s.streams, d),
        "altup.router_norm.weight": (d,),
        "altup.prediction_coefs.weight": (s.streams ** 2, s.streams),
        "altup.correction_coefs.weight": (s.streams, s.streams),
        "altup.correct_output_scale": (d,),
        "input_layernorm.weight": (d,),
        "laurel.linear_left.weight": (s.laurel, d),
        "laurel.linear_right.weight": (d, s.laurel),
        "laurel.post_laurel_norm.weight": (d,),
        "self_attn.q_proj.weight": (s.heads * s.head_dim, d),
        "self_attn.q_norm.weight": (s.head_dim,),
        "self_attn.o_proj.weight": (d, s.heads * s.head_dim),
        "post_attention_layernorm.weight": (d,),
        "pre_feedforward_layernorm.weight": (d,),
        "mlp.gate_proj.weight": (s.ffn, d),
        "mlp.up_proj.weight": (s.ffn, d),
        "mlp.down_proj.weight": (d, s.ffn),
        "post_feedforward_layernorm.weight": (d,),
        "per_layer_input_gate.weight": (s.ple, d),
        "per_layer_projection.weight": (d, s.ple),
        "post_per_layer_input_norm.weight": (d,),
    }
    if layer < s.own_kv:
        shapes["self_attn.k_proj.weight"] = (s.kv_heads * s.head_dim, d)
        shapes["self_attn.v_proj.weight"] = (s.kv_heads * s.head_dim, d)
        shapes["self_attn.k_norm.weight"] = (s.head_dim,)
    return shapes


def initial_value(name, shape, generator):
    """Unit-variance initialisation: transformers' 0.02 is meant for 2048 columns."""
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        # Attention scores are not divided by sqrt(K): start them near variance 1.
        return torch.full(shape, shape[0] ** -0.25)
    if name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight",
                      "post_laurel_norm.weight", "post_per_layer_input_norm.weight")):
        return torch.full(shape, 0.5)
    if len(shape) == 1:
        return torch.ones(shape)
    value = torch.randn(shape, generator=generator)
    if name.endswith("_coefs.weight"):
        return value * 0.02
    if name == "embed_tokens_per_layer.weight":
        return value * 0.1
    return value / math.sqrt(shape[1])


def initial_parameters(shapes, seed):
    """Leaf tensors for {name: shape}."""
    generator = torch.Generator().manual_seed(seed)
    return {name: initial_value(name, shape, generator).requires_grad_() for name, shape in shapes.items()}


def rms(x, weight=None):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)
    return y if weight is None else y * weight


def rope_tables(positions, dim, theta):
    """cos and sin [B,T,1,K] for token positions [B,T] (half-split rotation)."""
    freq = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = positions[..., None].float() * freq
    angle = torch.cat([angle, angle], -1)[:, :, None, :]
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def route(x, router, norm):
    """AltUp's router: [B,T,D] -> [B,T,S] in (-1, 1)."""
    return torch.tanh(F.linear(rms(x, norm) * (1.0 / x.shape[-1]), router))


def attend(n, w, kv, rope, mask, head_dim, watched):
    """Grouped attention with scale 1; `kv` is None in layers that make their own.

    Returns the output, K and V, and how much of every head's attention falls on the tokens
    that `watched` [B,T,T] marks: [B,H,T], None where it is None.
    """
    batch, length, _ = n.shape
    cos, sin = rope
    q = F.linear(n, w["self_attn.q_proj.weight"]).view(batch, length, -1, head_dim)
    q = rotate(rms(q, w["self_attn.q_norm.weight"]), cos, sin).transpose(1, 2)
    if kv is None:
        k = F.linear(n, w["self_attn.k_proj.weight"]).view(batch, length, -1, head_dim)
        v = F.linear(n, w["self_attn.v_proj.weight"]).view(batch, length, -1, head_dim)
        k = rotate(rms(k, w["self_attn.k_norm.weight"]), cos, sin).transpose(1, 2)
        kv = (k, rms(v).transpose(1, 2))
    group = q.shape[1] // kv[0].shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in kv)
    probs = torch.softmax(q @ k.transpose(2, 3) + mask, -1)
    out = (probs @ v).transpose(1, 2).reshape(batch, length, -1)
    share = None if watched is None else (probs * watched[:, None]).sum(-1)
    return F.linear(out, w["self_attn.o_proj.weight"]), kv, share


def feed_forward(x, gate, up, down, sparse):
    """The gated MLP on whatever prefix of the neurons the three matrices hold."""
    g = F.linear(x, gate)
    if sparse:
        mean = g.mean(-1, keepdim=True)
        std = (g - mean).pow(2).mean(-1, keepdim=True).sqrt()
        g = torch.relu(g - (mean + SPARSE_Z * std))
    return F.linear(F.gelu(g, approximate="tanh") * F.linear(x, up), down)


def layer(streams, pli, kv, rope, mask, w, sparse, head_dim, watched):
    """One decoder layer: S streams [B,T,D] in, S streams, (k, v) and attend()'s share out."""
    count = len(streams)
    router, router_norm = w["altup.modality_router.weight"], w["altup.router_norm.weight"]
    c = F.linear(route(streams[0], router, router_norm), w["altup.prediction_coefs.weight"])
    predicted = [streams[i] + sum(c[..., count * i + j, None] * streams[j] for j in range(count))
                 for i in range(count)]
    a = predicted[0]
    n = rms(a, w["input_layernorm.weight"])
    low_rank = F.linear(F.linear(n, w["laurel.linear_left.weight"]), w["laurel.linear_right.weight"])
    laurel = n + rms(low_rank, w["laurel.post_laurel_norm.weight"])
    o, kv, share = attend(n, w, kv, rope, mask, head_dim, watched)
    g = (a + rms(o, w["post_attention_layernorm.weight"]) + laurel) * math.sqrt(0.5)
    u = feed_forward(rms(g, w["pre_feedforward_layernorm.weight"]), w["gate"], w["up"], w["down"], sparse)
    act = g + rms(u, w["post_feedforward_layernorm.weight"])
    k = F.linear(route(act, router, router_norm), w["altup.correction_coefs.weight"])
    delta = act - a
    out = [predicted[i] + (k[..., i, None] + 1.0) * delta for i in range(count)]
    q = out[0] * w["altup.correct_output_scale"]
    z = F.gelu(F.linear(q, w["per_layer_input_gate.weight"]), approximate="tanh") * pli
    x = rms(F.linear(z, w["per_layer_projection.weight"]), w["post_per_layer_input_norm.weight"])
    return [out[0]] + [y + x for y in out[1:]], kv, share


def matched(y, magnitude):
    """y with its root mean square set to `magnitude`."""
    return y * magnitude / torch.sqrt(y.pow(2).mean(-1, keepdim=True).clamp(min=1e-5))


def soft_rows(features, p, kind):
    """Outputs of a tower [..., E] -> the rows [..., D] that stand for its soft tokens."""
    features = rms(features, p[f"embed_{kind}.soft_embedding_norm.weight"])
    return rms(F.linear(features, p[f"embed_{kind}.embedding_projection.weight"]))


def hard_rows(p, kind):
    """The rows [tower_vocab, D] of the tower's ids."""
    features = rms(p[f"embed_{kind}.embedding.weight"], p[f"embed_{kind}.hard_embedding_norm.weight"])
    return rms(F.linear(features, p[f"embed_{kind}.embedding_projection.weight"]))


def enter(ids, p, s, rows=None):
    """ids [B,T] -> the S streams [B,T,D] and the per-layer inputs [B,T,L,P].

    `rows` [B,T,D] replaces the embedding of every id beyond the text vocabulary.
    """
    x = F.embedding(ids, p["embed_tokens.weight"]) * math.sqrt(s.width)
    if rows is not None:
        x = torch.where((ids < s.text_vocab)[..., None], x, rows)
    rows = torch.where(ids < s.text_vocab, ids, 0)
    ple = F.embedding(rows, p["embed_tokens_per_layer.weight"]) * math.sqrt(s.ple)
    context = F.linear(x, p["per_layer_model_projection.weight"]) * s.width ** -0.5
    shape = (*ids.shape, s.layers, s.ple)
    context = rms(context.view(shape), p["per_layer_projection_norm.weight"])
    magnitude = x.pow(2).mean(-1, keepdim=True).sqrt()
    streams = [x] + [matched(F.linear(x, p[f"altup_projections.{i}.weight"]), magnitude)
                     for i in range(s.streams - 1)]
    return streams, (context + ple.view(shape)) * math.sqrt(0.5)


def leave(streams, p):
    """S streams -> the normed final hidden state [B,T,D]."""
    magnitude = streams[0].pow(2).mean(-1, keepdim=True).sqrt()
    total = streams[0]
    for i, y in enumerate(streams[1:]):
        total = total + matched(F.linear(y, p[f"altup_unembed_projections.{i}.weight"]), magnitude)
    return rms(total / len(streams), p["norm.weight"])


def masks(documents, positions, window, parents=None):
    """Additive [B,1,T,T] masks (full, sliding) that keep documents of one row apart.

    A document that has a parent (its number, -1 for none) continues it and sees it too.
    """
    same = documents[:, :, None] == documents[:, None, :]
    if parents is not None:
        same |= parents[:, :, None] == documents[:, None, :]
    distance = positions[:, :, None] - positions[:, None, :]
    full = same & (distance >= 0)
    zero = torch.zeros(full.shape)
    blocked = -1e9
    return tuple(zero.masked_fill(~ok, blocked)[:, None] for ok in (full, full & (distance < window)))


class Nano:
    """Parameters plus the forward pass of any size.

    A size is a list of L feed-forward widths, 0 for a skipped layer.
    """

    def __init__(self, shape, params, compiled=False):
        self.shape, self.params = shape, params
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.layer, self.enter, self.leave = wrap(layer), wrap(enter), wrap(leave)
        self.names = [list(layer_shapes(shape, n)) for n in range(shape.layers)]

    def layer_weights(self, params, n, width):
        w = {name: params[f"layers.{n}.{name}"] for name in self.names[n]}
        w["gate"] = w.pop("mlp.gate_proj.weight")[:width]
        w["up"] = w.pop("mlp.up_proj.weight")[:width]
        w["down"] = w.pop("mlp.down_proj.weight")[:, :width]
        return w

    def hidden(self, ids, documents, positions, size, parents=None, rows=None, watched=None):
        """Final hidden states [B,T,D]; `parents` as in masks(), `rows` as in enter().

        With `watched` also attend()'s share in layer WATCHED.
        """
        s, params = self.shape, self.params
        mask = masks(documents, positions, s.window, parents)
        ropes = [rope_tables(positions, s.head_dim, theta) for theta in (1e6, 1e4)]
        top = {k: v for k, v in params.items() if not k.startswith(("layers.", "embed_vision", "embed_audio"))}
        streams, pli = self.enter(ids, top, s, rows)
        stored, watched_share = {}, None
        for n in range(s.layers):
            if size[n] == 0:
                continue
            sliding = 0 if s.full_attention(n) else 1
            kv = stored[s.kv_source(n)] if n >= s.own_kv else None
            streams, made, share = self.layer(
                streams, pli[:, :, n], kv, ropes[sliding], mask[sliding], self.layer_weights(params, n, size[n]),
                n < s.sparse, s.head_dim, watched if n == WATCHED else None)
            watched_share = share if n == WATCHED else watched_share
            if kv is None:
                stored[n] = made
        final = self.leave(streams, top)
        return final if watched is None else (final, watched_share)

    def logits(self, hidden):
        z = F.linear(hidden, self.params["embed_tokens.weight"])
        return 30.0 * torch.tanh(z / 30.0)
