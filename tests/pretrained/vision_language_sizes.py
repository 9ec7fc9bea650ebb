"""Configs of published vision-language models, and their sizes."""

LLAVA = {
  'text_config': {
    'model_type': 'llama',
    'vocab_size': 32064,
    'max_position_embeddings': 4096,
    'rms_norm_eps': 1e-5,
  },
  'vision_config': {
    'model_type': 'clip_vision_model',
    'hidden_size': 1024,
    'image_size': 336,
    'intermediate_size': 4096,
    'num_attention_heads': 16,
    'num_hidden_layers': 24,
    'patch_size': 14,
  },
}
PALIGEMMA = {
  'text_config': {'model_type': 'gemma', 'vocab_size': 257216},
  'vision_config': {
    'model_type': 'siglip_vision_model',
    'intermediate_size': 4304,
    'image_size': 224,
  },
}
QWEN = {
  'hidden_size': 3584,
  'intermediate_size': 18944,
  'num_hidden_layers': 28,
  'num_attention_heads': 28,
  'num_key_value_heads': 4,
  'vocab_size': 152064,
  'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
}
QWEN2 = {'depth': 32, 'embed_dim': 1280, 'hidden_size': 3584, 'num_heads': 16}
QWEN25 = {'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420}
GEMMA3 = {
  'text_config': {
    'hidden_size': 2560,
    'intermediate_size': 10240,
    'num_hidden_layers': 34,
    'vocab_size': 262208,
  },
  'vision_config': {
    'hidden_size': 1152,
    'image_size': 896,
    'intermediate_size': 4304,
    'num_attention_heads': 16,
    'num_hidden_layers': 27,
    'patch_size': 14,
    'vision_use_head': False,
  },
}
SMOLVLM = {
  'text_config': {
    'hidden_size': 576,
    'intermediate_size': 1536,
    'num_attention_heads': 9,
    'num_hidden_layers': 30,
    'num_key_value_heads': 3,
    'vocab_size': 49280,
  },
  'vision_config': {
    'hidden_size': 768,
    'image_size': 512,
    'num_attention_heads': 12,
    'patch_size': 16,
  },
  'scale_factor': 4,
}
SMOLVLM2 = {
  'text_config': {
    'hidden_size': 2048,
    'intermediate_size': 8192,
    'num_attention_heads': 32,
    'num_hidden_layers': 24,
    'num_key_value_heads': 32,
    'vocab_size': 49280,
  },
  'vision_config': {
    'intermediate_size': 4304,
    'image_size': 384,
    'num_hidden_layers': 27,
    'patch_size': 14,
  },
  'scale_factor': 3,
}
INTERNVL = {
  'text_config': {
    'hidden_size': 896,
    'intermediate_size': 4864,
    'num_attention_heads': 14,
    'num_hidden_layers': 24,
    'num_key_value_heads': 2,
    'vocab_size': 151674,
  },
  'vision_config': {'attention_bias': True, 'image_size': [448, 448]},
  'tie_word_embeddings': False,
}
ONEVISION = {
  'text_config': {
    'hidden_size': 896,
    'intermediate_size': 4864,
    'num_attention_heads': 14,
    'num_hidden_layers': 24,
    'num_key_value_heads': 2,
    'tie_word_embeddings': True,
    'vocab_size': 152000,
  },
}
QWEN3 = {
  'text_config': {
    'hidden_size': 2048,
    'intermediate_size': 6144,
    'num_attention_heads': 16,
    'num_hidden_layers': 28,
    'num_key_value_heads': 8,
    'rope_scaling': {
      'mrope_interleaved': True,
      'mrope_section': [24, 20, 20],
      'rope_type': 'default',
    },
    'rope_theta': 5000000,
  },
  'vision_config': {
    'deepstack_visual_indexes': [5, 11, 17],
    'depth': 24,
    'hidden_size': 1024,
    'intermediate_size': 4096,
    'out_hidden_size': 2048,
  },
  'tie_word_embeddings': True,
}
# Janus-Pro 1B; all else is the default.
JANUS = {
  'text_config': {
    'hidden_size': 2048,
    'intermediate_size': 5632,
    'num_attention_heads': 16,
    'num_hidden_layers': 24,
    'vocab_size': 102400,
  },
  'tie_word_embeddings': False,
}
OMNI_3B = {
  'text_config': {
    'hidden_size': 2048,
    'intermediate_size': 11008,
    'num_attention_heads': 16,
    'num_hidden_layers': 36,
    'num_key_value_heads': 2,
    'vocab_size': 151936,
  },
  'vision_config': {**QWEN25, 'out_hidden_size': 2048},
  'audio_config': {'output_dim': 2048},
}
OMNI_7B = {'text_config': {}, 'vision_config': QWEN25, 'audio_config': {}}
# Parameters of the published checkpoints.
SIZES = {
  'janus': (JANUS, 2_076_636_811),
  'idefics3': (SMOLVLM, 256_484_928),
  'smolvlm': (SMOLVLM2, 2_246_784_880),
  'internvl': (INTERNVL, 938_193_024),
  'gemma3': (GEMMA3, 4_300_079_472),
  'llava': (LLAVA, 7_063_427_072),
  'llava_onevision': (ONEVISION, 893_675_552),
  'paligemma': (PALIGEMMA, 2_923_466_480),
  'qwen2_vl': ({**QWEN, 'vision_config': QWEN2}, 8_291_375_616),
  # Without the two vectors that nothing reads.
  'qwen2_5_omni_thinker': (OMNI_7B, 8_931_806_720),
  'qwen2_5_omni_thinker 3B': (OMNI_3B, 4_703_460_352),
  'qwen2_5_vl': ({**QWEN, 'vision_config': QWEN25}, 8_292_166_656),
  'qwen3_vl': (QWEN3, 2_127_532_032),
}
