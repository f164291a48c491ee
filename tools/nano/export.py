"""Writes a Hugging Face directory: config, tokenizer side files and bf16 weights.

The vision tower's widths are in no config of transformers: architecture.json says them in timm's
notation. train.py alone writes a directory without towers; their id ranges are there already.
"""

import json

import torch
from safetensors.torch import save_file

import train_sounds
import vision

PREFIX = "model.language_model."


def stored_name(name):
    """What a checkpoint calls a parameter of model.py."""
    return ("model." if name.startswith(("embed_vision.", "embed_audio.")) else PREFIX) + name
AUDIO_TOKENS, IMAGE_SIDE = 32, 256

CHAT_TEMPLATE = """{{ bos_token }}
{%- set ns = namespace(system='', first=true) -%}
{%- for message in messages -%}
    {%- if loop.first and message['role'] == 'system' -%}
        {%- if message['content'] is string -%}
            {%- set ns.system = message['content'] + '\\n\\n' -%}
        {%- else -%}
            {%- set ns.system = message['content'][0]['text'] + '\\n\\n' -%}
        {%- endif -%}
    {%- else -%}
        {%- if (message['role'] == 'user') != ns.first -%}
            {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
        {%- endif -%}
        {%- set ns.first = not ns.first -%}
        {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + ns.system }}
        {%- set ns.system = '' -%}
        {%- if message['content'] is string -%}
            {{ message['content'] | trim }}
        {%- else -%}
            {%- for item in message['content'] -%}
                {%- if item['type'] == 'image' -%}
                    {{ '<image_soft_token>' }}
                {%- elif item['type'] == 'audio' -%}
                    {{ '<audio_soft_token>' }}
                {%- elif item['type'] == 'text' -%}
                    {{ item['text'] | trim }}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
        {{ '<end_of_turn>\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""


def text_config(s):
    return {
        "activation_sparsity_pattern": [0.95 if n < s.sparse else 0.0 for n in range(s.layers)],
        "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True,
        "altup_num_inputs": s.streams, "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 2, "dtype": "bfloat16", "eos_token_id": 1, "final_logit_softcapping": 30.0,
        "head_dim": s.head_dim, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": s.width,
        "hidden_size_per_layer_input": s.ple, "initializer_range": 0.02,
        "intermediate_size": [s.ffn] * s.layers, "laurel_rank": s.laurel,
        "layer_types": ["full_attention" if s.full_attention(n) else "sliding_attention" for n in range(s.layers)],
        "max_position_embeddings": 32768, "model_type": "gemma3n_text", "num_attention_heads": s.heads,
        "num_hidden_layers": s.layers, "num_key_value_heads": s.kv_heads,
        "num_kv_shared_layers": s.layers - s.own_kv, "pad_token_id": 0, "rms_norm_eps": 1e-06,
        "rope_parameters": {"full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
                            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
        "sliding_window": s.window, "tie_word_embeddings": True, "use_cache": True,
        "vocab_size": s.vocab, "vocab_size_per_layer_input": s.text_vocab,
    }


def tower_configs(s, towers):
    """Sections of the towers. Without towers only the ids mean something, and nothing is stored."""
    vision = {"architecture": "mobilenetv5_300m_enc", "do_pooling": False,
              "hidden_size": s.vision_width if towers else 2048,
              "model_type": "gemma3n_vision", "rms_norm_eps": 1e-06,
              "vocab_offset": s.text_vocab, "vocab_size": s.tower_vocab}
    audio = {"hidden_size": 1536, "conf_num_hidden_layers": 12, "input_feat_size": 128,
             "model_type": "gemma3n_audio", "rms_norm_eps": 1e-06,
             "vocab_offset": s.text_vocab + s.tower_vocab, "vocab_size": s.tower_vocab}
    if towers:
        audio |= train_sounds.CONFIG
    return vision, audio


def config(s, towers):
    vision, audio = tower_configs(s, towers)
    return {
        "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
        "audio_config": audio, "vision_config": vision, "text_config": text_config(s),
        "audio_soft_tokens_per_image": AUDIO_TOKENS if towers else 188, "vision_soft_tokens_per_image": 256,
        "boi_token_id": s.text_vocab - 2, "boa_token_id": s.text_vocab - 1,
        "eoi_token_id": s.text_vocab, "image_token_id": s.text_vocab + 1,
        "eoa_token_id": s.text_vocab + s.tower_vocab, "audio_token_id": s.text_vocab + s.tower_vocab + 1,
        "bos_token_id": 2, "eos_token_id": [1, 106], "pad_token_id": 0,
        "dtype": "bfloat16", "initializer_range": 0.02, "tie_word_embeddings": True,
    }


def generation_config():
    return {"bos_token_id": 2, "do_sample": True, "eos_token_id": [1, 106], "pad_token_id": 0,
            "temperature": 1.0, "top_k": 64, "top_p": 0.95}


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def preprocessor_config():
    """Settings of transformers' image processor and audio feature extractor, as one file."""
    return {"crop_size": None, "data_format": "channels_first", "default_to_square": False, "device": None,
            "disable_grouping": None, "do_center_crop": None, "do_convert_rgb": None, "do_normalize": False,
            "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor", "image_seq_length": 256, "resample": 2,
            "rescale_factor": 1 / 255, "return_tensors": None, "size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
            "feature_extractor_type": "Gemma3nAudioFeatureExtractor", "feature_size": 128, "sampling_rate": 16000,
            "padding_value": 0.0, "padding_side": "right", "return_attention_mask": True,
            "frame_length": 512, "hop_length": 160, "fft_length": 1024, "fft_overdrive": True, "dither": 0.0,
            "input_scale_factor": 1.0, "mel_floor": 1e-05, "min_frequency": 125.0, "max_frequency": 7600.0,
            "preemphasis": 0.97, "preemphasis_htk_flavor": True, "per_bin_mean": None, "per_bin_stddev": None,
            "processor_class": "Gemma3nProcessor"}


def write_model(out, s, params, towers=None):
    """config.json, generation_config.json, chat_template.jinja, model.safetensors.

    `towers`: {prefix below "model.": state dict}; then architecture.json and the processor's files too.
    """
    write_json(out / "config.json", config(s, towers))
    write_json(out / "generation_config.json", generation_config())
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tensors = {stored_name(name): value
               for name, value in params.items()}
    for prefix, state in (towers or {}).items():
        tensors |= {f"model.{prefix}{name}": value for name, value in state.items()}
    tensors = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in tensors.items()}
    # Google's tables repeat row 0 for the ids of the towers.
    table = tensors[PREFIX + "embed_tokens.weight"]
    table[s.text_vocab:] = table[0]
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    if towers:
        write_json(out / "architecture.json", vision.ARCHITECTURE)
        write_json(out / "preprocessor_config.json", preprocessor_config())
        write_json(out / "processor_config.json", {"audio_seq_length": AUDIO_TOKENS, "image_seq_length": 256,
                                                   "processor_class": "Gemma3nProcessor"})
