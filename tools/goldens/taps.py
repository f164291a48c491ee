"""Intermediates of a transformers Gemma 3n forward pass, under the names of docs/tracing.md.

Nothing is computed here: modules are hooked, and where a value is no module's output (AltUp's
two steps, the attention weights, the per-layer inputs) transformers' own function is wrapped.
"""

import contextlib

import torch
from transformers.models.gemma3n import modeling_gemma3n


class Taps(contextlib.ExitStack):
    """While entered, every forward pass of `model` writes its intermediates to `tensors`: batch
    dimension removed, row-major, token first, streams leading with S. A name is written again by
    the next pass."""

    def __init__(self, model):
        super().__init__()
        self.tensors = {}
        text = getattr(model.model, "language_model", model.model)
        self._hook_ends(text, model)
        for number, layer in enumerate(text.layers):
            self._hook_layer(f"layers.{number}.", layer)
        self._wrap_attention()

    def put(self, name, value):
        # A copy: AltUp's corrected streams are changed in place afterwards.
        self.tensors[name] = value.detach().clone().contiguous()

    def output(self, module, name, change=lambda value: value[0]):
        self.callback(module.register_forward_hook(lambda _, args, out: self.put(name, change(out))).remove)

    def input(self, module, name, change=lambda value: value[0]):
        self.callback(module.register_forward_pre_hook(lambda _, args: self.put(name, change(args[0]))).remove)

    def wrap(self, owner, function, after):
        """Replaces owner.function until the end; after(out, *args) sees each call."""
        original = getattr(owner, function)

        def wrapped(*args, **kwargs):
            out = original(*args, **kwargs)
            after(out, *args)
            return out
        setattr(owner, function, wrapped)
        if isinstance(owner, torch.nn.Module):
            self.callback(delattr, owner, function)
        else:
            self.callback(setattr, owner, function, original)

    def _hook_ends(self, text, model):
        layers, width = text.config.num_hidden_layers, text.config.hidden_size_per_layer_input
        self.output(text.embed_tokens, "embed")
        self.output(text.embed_tokens_per_layer, "per_layer_embed", lambda v: v.reshape(-1, layers, width))

        def per_layer_inputs(out, inputs_embeds, *_):
            self.put("inputs_embeds", inputs_embeds[0])
            self.put("per_layer_inputs", out[0])
        self.wrap(text, "project_per_layer_inputs", per_layer_inputs)
        self.input(text.layers[0], "streams_init", lambda v: v[:, 0])
        self.input(text.norm, "merged")
        self.output(text.norm, "final_hidden")
        self.output(model, "logits", lambda v: v.logits[0])
        for kind in ("vision", "audio"):
            embedder = getattr(model.model, f"embed_{kind}", None)
            if embedder is not None:
                self.callback(embedder.register_forward_hook(
                    lambda _, args, kwargs, out, name=f"{kind}.soft_tokens":
                    self.put(name, out[0]) if "inputs_embeds" in kwargs else None, with_kwargs=True).remove)

    def _hook_layer(self, at, layer):
        streams = lambda value: value[:, 0]
        self.wrap(layer.altup, "predict", lambda out, *_: self.put(at + "altup.predict", streams(out)))
        self.output(layer.input_layernorm, at + "input_layernorm")
        self.output(layer.laurel, at + "laurel")
        self.input(layer.self_attn.o_proj, at + "attn.context")
        self.output(layer.self_attn.o_proj, at + "attn.out")
        self.input(layer.pre_feedforward_layernorm, at + "attn_laurel")
        self.input(layer.mlp.act_fn, at + "mlp.gate_after_topk")
        self.output(layer.mlp, at + "mlp.out")
        self.wrap(layer.altup, "correct", lambda out, *_: self.put(at + "altup.correct", streams(out)))
        self.output(layer.post_per_layer_input_norm, at + "per_layer_input")
        self.output(layer, at + "streams", streams)

    def _wrap_attention(self):
        def attention(out, module, query, key, value, *_):
            at = f"layers.{module.layer_idx}.attn."
            self.put(at + "q", query[0].transpose(0, 1))
            if not module.is_kv_shared_layer:
                self.put(at + "k", key[0].transpose(0, 1))
                self.put(at + "v", value[0].transpose(0, 1))
            self.put(at + "probs", out[1][0])
        self.wrap(modeling_gemma3n, "eager_attention_forward", attention)


@contextlib.contextmanager
def float64_throughout():
    """Norms, routers, RoPE and softmax of transformers go to float32 by themselves; here they do
    not, so that a model in float64 has no float32 step."""
    to_float, softmax = torch.Tensor.float, torch.nn.functional.softmax
    torch.Tensor.float = torch.Tensor.double
    torch.nn.functional.softmax = lambda value, dim, dtype=None: softmax(value, dim)
    try:
        yield
    finally:
        torch.Tensor.float, torch.nn.functional.softmax = to_float, softmax


def worst_error(tensors, exact):
    """(largest max|tensor - exact| / rms(tensor), its name) over the floating-point tensors."""
    def error(name):
        value = tensors[name].double()
        return ((value - exact[name]).abs().max() / value.pow(2).mean().sqrt()).item()
    return max((error(name), name) for name, value in tensors.items() if value.is_floating_point())
