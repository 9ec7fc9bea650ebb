"""Classes of vision-language models, and what all configs of each share."""

import transformers

from tests.oracles import vision_language_configs as models


def make_qwen2audio(text_config, vision_config, **more):
  return transformers.Qwen2AudioConfig(
    text_config=text_config,
    audio_config=transformers.Qwen2AudioEncoderConfig(**vision_config),
    **more,
  )


FAMILIES = {
  'gemma3': (
    transformers.Gemma3Config,
    transformers.Gemma3ForConditionalGeneration,
    transformers.Gemma3TextConfig,
    transformers.SiglipVisionConfig,
    {'image_token_index': models.SEEN},
  ),
  'idefics3': (
    transformers.Idefics3Config,
    transformers.Idefics3ForConditionalGeneration,
    transformers.LlamaConfig,
    dict,
    {'image_token_id': models.SEEN},
  ),
  'smolvlm': (
    transformers.SmolVLMConfig,
    transformers.SmolVLMForConditionalGeneration,
    transformers.LlamaConfig,
    dict,
    {'image_token_id': models.SEEN},
  ),
  'internvl': (
    transformers.InternVLConfig,
    transformers.InternVLForConditionalGeneration,
    transformers.Qwen2Config,
    dict,
    {'image_token_id': models.SEEN},
  ),
  'janus': (
    transformers.JanusConfig,
    transformers.JanusForConditionalGeneration,
    transformers.LlamaConfig,
    transformers.JanusVisionConfig,
    {'image_token_id': models.SEEN},
  ),
  'llava': (
    transformers.LlavaConfig,
    transformers.LlavaForConditionalGeneration,
    transformers.LlamaConfig,
    transformers.CLIPVisionConfig,
    {'image_token_index': models.SEEN},
  ),
  'onevision': (
    transformers.LlavaOnevisionConfig,
    transformers.LlavaOnevisionForConditionalGeneration,
    transformers.Qwen2Config,
    transformers.SiglipVisionConfig,
    {'image_token_index': models.SEEN, 'video_token_index': models.SEEN - 1},
  ),
  'paligemma': (
    transformers.PaliGemmaConfig,
    transformers.PaliGemmaForConditionalGeneration,
    transformers.GemmaConfig,
    transformers.SiglipVisionConfig,
    {'image_token_index': models.SEEN},
  ),
  'paligemma2': (
    transformers.PaliGemmaConfig,
    transformers.PaliGemmaForConditionalGeneration,
    transformers.Gemma2Config,
    transformers.SiglipVisionConfig,
    {'image_token_index': models.SEEN},
  ),
  'qwen2vl': (
    transformers.Qwen2VLConfig,
    transformers.Qwen2VLForConditionalGeneration,
    dict,
    dict,
    models.QWEN,
  ),
  'qwen25vl': (
    transformers.Qwen2_5_VLConfig,
    transformers.Qwen2_5_VLForConditionalGeneration,
    dict,
    dict,
    models.QWEN,
  ),
  'qwen25omni': (
    transformers.Qwen2_5OmniThinkerConfig,
    transformers.Qwen2_5OmniThinkerForConditionalGeneration,
    dict,
    dict,
    models.OMNI,
  ),
  'qwen2audio': (
    make_qwen2audio,
    transformers.Qwen2AudioForConditionalGeneration,
    transformers.Qwen2Config,
    dict,
    {'audio_token_index': models.SEEN},
  ),
  'qwen3vl': (
    transformers.Qwen3VLConfig,
    transformers.Qwen3VLForConditionalGeneration,
    dict,
    dict,
    models.QWEN,
  ),
}
