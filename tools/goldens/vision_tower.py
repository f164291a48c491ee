"""A narrow vision tower with the published list of blocks, timm's and transformers' own modules, and what it computes.

Widths are no multiples of what kernels like, so that edges are computed too.
"""

import numpy
import torch
from PIL import Image
from timm.layers import RmsNorm2d
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.mobilenetv5 import MobileNetV5Encoder, MobileNetV5MultiScaleFusionAdapter
from torch import nn
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder

STEM, WIDTHS, OUT = 10, (12, 18, 24, 36), 40
PREFIX = "model.vision_tower.timm_model."


def block_list(c0, c1, c2, c3):
    """3/5/37/39 blocks with the kernels, strides and kinds of mobilenetv5_300m_enc."""
    return [
        [f"er_r1_k3_s2_e4_c{c0}"] + [f"er_r1_k3_s1_e4_c{c0}"] * 2,
        [f"uir_r1_a3_k5_s2_e6_c{c1}"] + [f"uir_r1_a{k}_k0_s1_e4_c{c1}" for k in (5, 3, 5, 3)],
        [f"uir_r1_a5_k5_s2_e6_c{c2}"] + [f"uir_r1_a5_k0_s1_e4_c{c2}"] * 7 + [f"uir_r1_a0_k0_s1_e1_c{c2}"] +
        [f"mqa_r1_k3_h3_v2_s1_d10_c{c2}", f"uir_r1_a0_k0_s1_e2_c{c2}"] * 14,
        [f"uir_r1_a5_k5_s2_e6_c{c3}"] + [f"mqa_r1_k3_h2_s1_d18_c{c3}", f"uir_r1_a0_k0_s1_e2_c{c3}"] * 19,
    ]


class VisionTower(nn.Module):
    """The encoder and the embedder after it; pictures [1,3,R,R] in, soft tokens [256, text width] out."""

    def __init__(self, config):
        super().__init__()
        gelu = lambda inplace=False: nn.GELU(approximate="tanh")  # noqa: E731 - timm passes `inplace`
        self.timm_model = MobileNetV5Encoder(
            block_args=decode_arch_def(block_list(*WIDTHS)), stem_size=STEM, fix_stem=True, pad_type="same",
            norm_layer=RmsNorm2d, act_layer=gelu, layer_scale_init_value=1e-5, round_chs_fn=lambda c: c)
        # timm's width of the adapter is fixed.
        self.timm_model.msfa = MobileNetV5MultiScaleFusionAdapter(
            in_chs=self.timm_model.msfa_in_chs, out_chs=OUT, output_resolution=self.timm_model.msfa_output_resolution,
            norm_layer=RmsNorm2d, act_layer=gelu)
        self.embedder = Gemma3nMultimodalEmbedder(config.vision_config, config.text_config)
        self.eval()

    def tensors(self):
        """Under the published names."""
        return {name.replace("timm_model.", PREFIX, 1) if name.startswith("timm_model.")
                else name.replace("embedder.", "model.embed_vision.", 1): value.detach().clone()
                for name, value in self.named_parameters()}

    def taps(self, pixels):
        """Maps [side, side, channels] and rows, by the names of docs/tracing.md."""
        taps, handles = {}, []

        def tap(module, name):
            def put(_, inputs, out):
                taps[name] = out[0].permute(1, 2, 0).detach().clone().contiguous()
            handles.append(module.register_forward_hook(put))
        tap(self.timm_model.conv_stem, "vision.stem")
        for s, stage in enumerate(self.timm_model.blocks):
            for b, block in enumerate(stage):
                tap(block, f"vision.blocks.{s}.{b}")
            tap(stage, f"vision.stages.{s}")
        tap(self.timm_model.msfa, "vision.msfa")
        with torch.no_grad():
            self.timm_model(pixels.permute(2, 0, 1)[None])
            rows = taps["vision.msfa"].reshape(256, OUT)
            taps["vision.encoder_out"] = rows
            taps["vision.soft_tokens"] = self.embedder(inputs_embeds=rows[None] * OUT ** 0.5)[0]
        for handle in handles:
            handle.remove()
        return taps


def fill(tower, seed):
    """Random values that bf16 holds, at scales where a mistake shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in tower.named_parameters():
            normal = torch.randn(p.shape, generator=generator)
            if p.dim() > 1:
                value = normal / p[0].numel() ** 0.5
            elif name.endswith(".bias"):
                value = normal * 0.1
            else:
                value = (0.4 if name.endswith("gamma") else 1.0) * (1 + normal / 4).clamp(0.25, 1.75)
            p.copy_(value.to(torch.bfloat16).float())


def picture(side, seed):
    """Waves of different sizes, orientations and colours, 8-bit [side, side, 3]."""
    generator = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:side, 0:side] / side
    image = numpy.full((side, side, 3), 0.5)
    for _ in range(8):
        u, v = generator.uniform(-6, 6, 2)
        wave = numpy.sin(2 * numpy.pi * (u * x + v * y) + generator.uniform(0, 6.3))
        image += 0.12 * wave[..., None] * generator.uniform(-1, 1, 3)
    return Image.fromarray((image.clip(0, 1) * 255).round().astype(numpy.uint8))


def parts(taps):
    """name -> the part to keep: a grid of 4 x 4 pixels of every block's output, 16 x 16 of a stage's."""
    def bracket(name, map_):
        step = map_.shape[0] // (4 if ".blocks." in name else 16)
        return f"[::{step},::{step}]" if map_.dim() == 3 and step > 1 else ""
    return {name: bracket(name, map_) for name, map_ in taps.items() if name != "vision.encoder_out"}
