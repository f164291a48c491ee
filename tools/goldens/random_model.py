"""Random Gemma 3n checkpoints: tiny, but with every value at a scale where a mistake shows."""

import torch
from safetensors.torch import save_file
from transformers import AutoModel, Gemma3nConfig, Gemma3nForCausalLM, Gemma3nForConditionalGeneration
from transformers.models.gemma3n import modeling_gemma3n

PREFIX = "model.language_model."


def config_of(text, **changes):
    """A Gemma3nConfig with `text` over the published defaults: window 8, four sliding layers, then a
    full one, three sparse layers at most."""
    layers = text["num_hidden_layers"]
    sparse = min(3, layers // 2)
    text = {"laurel_rank": 16, "hidden_size_per_layer_input": 16, "sliding_window": 8, "max_position_embeddings": 4096,
            "layer_types": ["full_attention" if i % 5 == 4 else "sliding_attention" for i in range(layers)],
            "activation_sparsity_pattern": [0.95] * sparse + [0.0] * (layers - sparse), "dtype": "float32",
            "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0} | text
    text["intermediate_size"] = [text["intermediate_size"]] * layers
    return Gemma3nConfig(text_config=text, dtype="float32", architectures=["Gemma3nForConditionalGeneration"],
                         **changes)


def text_model(config):
    text = config.text_config
    text._attn_implementation = "eager"
    return Gemma3nForCausalLM(text).float().eval()


class ReplacedTower(torch.nn.Module):
    """Stands where an encoder is and returns what it is given."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(0), persistent=False)
        self.masked = None

    def forward(self, *args, **kwargs):
        return modeling_gemma3n.Gemma3nAudioEncoderModelOutput(last_hidden_state=self.rows, audio_mel_mask=self.masked)


def model_without_towers(config):
    config._attn_implementation = "eager"
    text = config.text_config
    text._attn_implementation = "eager"
    original = AutoModel.from_config
    try:
        modeling_gemma3n.AutoModel.from_config = \
            lambda part: original(part) if part.model_type == "gemma3n_text" else ReplacedTower()
        return Gemma3nForConditionalGeneration(config).float().eval()
    finally:
        modeling_gemma3n.AutoModel.from_config = original


def random_tensor(name, shape, width, branch, generator):
    """`branch` is the size of what a branch adds to its stream, relative to 1."""
    normal = torch.randn(shape, generator=generator)
    leaf = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if name.endswith("altup.modality_router.weight"):
        return normal * 0.6 * width ** 0.5  # its input is divided by the width
    if leaf.endswith("_coefs"):
        return normal * 0.2
    if len(shape) == 2:
        return normal / shape[1] ** 0.5
    scales = {"q_norm": 0.5, "k_norm": 0.7, "correct_output_scale": 0.8}
    value = scales.get(leaf, branch if leaf.startswith("post_") else 1) * (1 + normal / 4).clamp(0.25, 1.75)
    if name == PREFIX + "norm.weight":
        # Of both signs: the head is the embedding, and a positive norm would make every token predict itself.
        value *= 3 * torch.randn(shape, generator=generator).sign()
    return value


def fill(model, seed, branch=0.4):
    """Gives every parameter a random value; returns the tensors under their published names."""
    generator = torch.Generator().manual_seed(seed)
    width = model.get_input_embeddings().embedding_dim
    tensors = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if isinstance(model, Gemma3nForCausalLM):
                name = name.replace("model.", PREFIX, 1)
            parameter.copy_(random_tensor(name, parameter.shape, width, branch, generator))
            tensors[name] = parameter.detach().clone()
    assert not [name for name in tensors if "lm_head" in name], "the head must be tied to the embedding"
    return tensors


def add_unused_projections(tensors, text, seed):
    """k_proj, v_proj and k_norm of layers that share K/V: in Google's files, used by nothing."""
    generator = torch.Generator().manual_seed(seed)
    rows = text.num_key_value_heads * text.head_dim
    for layer in range(text.num_hidden_layers - text.num_kv_shared_layers, text.num_hidden_layers):
        for part, shape in (("k_proj", (rows, text.hidden_size)), ("v_proj", (rows, text.hidden_size)),
                            ("k_norm", (text.head_dim,))):
            name = f"{PREFIX}layers.{layer}.self_attn.{part}.weight"
            tensors[name] = random_tensor(name, shape, text.hidden_size, 1, generator)


def write_checkpoint(directory, config, tensors):
    config.save_pretrained(directory)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
