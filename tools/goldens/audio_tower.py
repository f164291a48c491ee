"""The audio tower of transformers at a small width, with its embedder and a text model that receives the rows."""

import contextlib
import copy

import torch
from transformers import AutoModel, Gemma3nForConditionalGeneration
from transformers.models.gemma3n import modeling_gemma3n

import random_model
from taps import float64_throughout

FRAMES, BINS = 97, 128  # one second: 49 rows after the first stage, 25 frames, more than two chunks of 12
ROWS = 10               # placeholders of a clip: 7 rows and 3 of padding


def config():
    return random_model.config_of(
        {"num_hidden_layers": 1, "num_kv_shared_layers": 0, "hidden_size": 48, "intermediate_size": 32,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 96,
         "vocab_size_per_layer_input": 64},
        vision_config={"hidden_size": 16, "vocab_offset": 64, "vocab_size": 16, "num_classes": 0},
        audio_config={"hidden_size": 24, "vocab_offset": 80, "vocab_size": 16, "conf_num_attention_heads": 2,
                      "conf_num_hidden_layers": 2, "sscp_conv_channel_size": [6, 4]},
        audio_soft_tokens_per_image=ROWS, boi_token_id=60, eoi_token_id=64, image_token_id=65, boa_token_id=61,
        eoa_token_id=80, audio_token_id=81)


class NoTower(torch.nn.Module):
    """Stands where the vision encoder is: it never runs."""


def model(config, seed):
    config._attn_implementation = "eager"
    original = AutoModel.from_config
    try:
        modeling_gemma3n.AutoModel.from_config = \
            lambda part: NoTower() if "vision" in part.model_type else original(part)
        made = Gemma3nForConditionalGeneration(config).float().eval()
    finally:
        modeling_gemma3n.AutoModel.from_config = original
    return made, {name: tensor for name, tensor in fill(made, seed).items()
                  if name.startswith(("model.audio_tower.", "model.embed_audio."))}


def fill(made, seed):
    """Every parameter random; kernels at the scale of their inputs, norms and scales around 1."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            normal = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                value = 1 + normal / 4
            else:
                value = normal / parameter[0].numel() ** 0.5
            parameter.copy_(value)
            tensors[name] = parameter.detach().clone()
    return tensors


def mel(seed):
    """Log-mel frames with bands that move, between the floor and loud speech."""
    generator = torch.Generator().manual_seed(seed + 1)
    time, bin_ = torch.arange(FRAMES)[:, None] / 20, torch.arange(BINS)[None] / 9
    bands = 3 * torch.sin(bin_ + 2 * torch.sin(time)) + 2 * torch.sin(3 * time) - bin_ / 4 - 3
    return (bands + 0.7 * torch.randn(FRAMES, BINS, generator=generator)).clamp(min=-11.512925)


def taps(made, frames, mask):
    """Intermediates of one pass of the whole model over placeholders alone, by hooks."""
    tensors = {}
    tower, embedder = made.model.audio_tower, made.model.embed_audio

    def keep(name, change=lambda value: value[0]):
        def hook(_, args, out):
            tensors[name] = change(out).detach().clone().contiguous()
        return hook
    front = tower.subsample_conv_projection
    hooks = {front.conv_0: ("audio.sscp.conv_0", lambda v: v[0].permute(1, 2, 0)),
             front.conv_1: ("audio.sscp.conv_1", lambda v: v[0].permute(1, 2, 0)),
             front: ("audio.sscp",), tower: ("audio.reduced", lambda v: v.last_hidden_state[0])}
    for number, block in enumerate(tower.conformer):
        at = f"audio.conformer.{number}"
        hooks[block] = (at,)
        for part in ("ffw_layer_start", "attention", "lconv1d", "ffw_layer_end"):
            hooks[getattr(block, part)] = (f"{at}.{part}",)

    def embedded(_, args, kwargs, out):
        if "inputs_embeds" in kwargs:
            tensors["audio.soft_tokens"] = out[0].detach().clone()
        elif kwargs["input_ids"].numel() == 1:
            tensors["audio.padding"] = out[0, 0].detach().clone()

    with contextlib.ExitStack() as stack, torch.no_grad():
        for module, arguments in hooks.items():
            stack.callback(module.register_forward_hook(keep(*arguments)).remove)
        stack.callback(embedder.register_forward_hook(embedded, with_kwargs=True).remove)
        stack.callback(tower.register_forward_hook(
            lambda _, args, out: tensors.update({"audio.reduced_mask": (~out.audio_mel_mask[0]).long()})).remove)
        stack.callback(made.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: tensors.update({"audio.filled": kwargs["inputs_embeds"][0].detach().clone()}),
            with_kwargs=True).remove)
        made(input_ids=torch.full((1, ROWS), made.config.audio_token_id), input_features=frames[None],
             input_features_mask=mask[None])
    return tensors


def with_float64(made, frames, mask):
    """The tensors of a float32 run, and those of the same run in float64."""
    tensors = taps(made, frames, mask)
    with float64_throughout():
        return tensors, taps(copy.deepcopy(made).double(), frames.double(), mask)
