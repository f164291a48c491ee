"""nano's vision tower: timm's MobileNetV5 modules with the block list of mobilenetv5_300m_enc at narrow widths."""

import torch
from timm.layers import RmsNorm2d
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.mobilenetv5 import MobileNetV5Encoder, MobileNetV5MultiScaleFusionAdapter
from torch import nn

OUT = 64


def block_list(c0, c1, c2, c3, heads, dim):
    """3/5/37/39 blocks with the kernels, strides and kinds of mobilenetv5_300m_enc."""
    early = [f"uir_r1_a5_k0_s1_e4_c{c2}"] * 7 + [f"uir_r1_a0_k0_s1_e1_c{c2}"]
    pair2 = [f"mqa_r1_k3_h{heads}_v2_s1_d{dim}_c{c2}", f"uir_r1_a0_k0_s1_e2_c{c2}"]
    # timm rounds 1.6 * 24 up to 40 channels.
    pair3 = [f"mqa_r1_k3_h{heads}_s1_d{dim}_c{c3}", f"uir_r1_a0_k0_s1_e1.6_c{c3}"]
    return [
        [f"er_r1_k3_s2_e4_c{c0}"] + [f"er_r1_k3_s1_e4_c{c0}"] * 2,
        [f"uir_r1_a3_k5_s2_e6_c{c1}"] + [f"uir_r1_a{k}_k0_s1_e4_c{c1}" for k in (5, 3, 5, 3)],
        [f"uir_r1_a5_k5_s2_e6_c{c2}"] + early + pair2 * 14,
        [f"uir_r1_a5_k5_s2_e6_c{c3}"] + pair3 * 19,
    ]


ARCHITECTURE = {"stem": 8, "msfa_out": OUT, "stages": block_list(8, 16, 24, 24, 2, 16)}


def build(architecture=ARCHITECTURE):
    """The encoder with freshly initialised weights; images [B,3,256,256] in, [B,E,16,16] out."""
    gelu = lambda inplace=False: nn.GELU(approximate="tanh")  # noqa: E731 - timm passes `inplace`
    model = MobileNetV5Encoder(
        block_args=decode_arch_def(architecture["stages"]), stem_size=architecture["stem"], fix_stem=True,
        pad_type="same", norm_layer=RmsNorm2d, act_layer=gelu, layer_scale_init_value=1e-5,
        round_chs_fn=lambda c: c)
    # timm's width of the adapter is fixed.
    model.num_features = model.head_hidden_size = architecture["msfa_out"]
    model.msfa = MobileNetV5MultiScaleFusionAdapter(
        in_chs=model.msfa_in_chs, out_chs=architecture["msfa_out"],
        output_resolution=model.msfa_output_resolution, norm_layer=RmsNorm2d, act_layer=gelu)
    return model


def start(model):
    """Initial values for training from nothing: layer scales that let gradients through."""
    with torch.no_grad():
        for stage in model.blocks:
            for block in stage:
                if hasattr(block, "layer_scale") and hasattr(block.layer_scale, "gamma"):
                    block.layer_scale.gamma.fill_(0.25 if getattr(block, "has_skip", True) else 1.0)
        for name, p in model.named_parameters():
            if p.dim() == 4:
                nn.init.normal_(p, std=(2.0 / p[0].numel()) ** 0.5 if "dw" in name else p[0].numel() ** -0.5)
