"""Writes a Hugging Face directory: config, tokenizer side files and bf16 weights.

Vision and audio sections carry the scaled id ranges, so that towers can be added to the
directory without moving an id; until then they have no tensors.
"""

import json

import torch
from safetensors.torch import save_file

PREFIX = "model.language_model."

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


def tower_configs(s):
    """Sections of the future towers: only the ids are meant to stay."""
    vision = {"architecture": "mobilenetv5_300m_enc", "do_pooling": False, "hidden_size": 2048,
              "model_type": "gemma3n_vision", "rms_norm_eps": 1e-06,
              "vocab_offset": s.text_vocab, "vocab_size": s.tower_vocab}
    audio = {"hidden_size": 1536, "conf_num_hidden_layers": 12, "input_feat_size": 128,
             "model_type": "gemma3n_audio", "rms_norm_eps": 1e-06,
             "vocab_offset": s.text_vocab + s.tower_vocab, "vocab_size": s.tower_vocab}
    return vision, audio


def config(s):
    vision, audio = tower_configs(s)
    return {
        "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
        "audio_config": audio, "vision_config": vision, "text_config": text_config(s),
        "audio_soft_tokens_per_image": 188, "vision_soft_tokens_per_image": 256,
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


def write_model(out, s, params):
    """config.json, generation_config.json, chat_template.jinja, model.safetensors."""
    write_json(out / "config.json", config(s))
    write_json(out / "generation_config.json", generation_config())
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tensors = {PREFIX + name: value.detach().to(torch.bfloat16).contiguous() for name, value in params.items()}
    # Google's tables repeat row 0 for the ids of the towers.
    table = tensors[PREFIX + "embed_tokens.weight"]
    table[s.text_vocab:] = table[0]
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
