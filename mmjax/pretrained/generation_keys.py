"""Every key of generation_config.json: honoured, refused or irrelevant."""

from typing import Any

# Keys that are honoured, and the arguments that they become, of
# `mmjax.models.generation.TextGenerator.generate`.
DIRECT = {
  'repetition_penalty': ('repetition_penalty', (int, float)),
  'no_repeat_ngram_size': ('no_repeat_ngram', int),
  'min_length': ('min_length', int),
  'min_new_tokens': ('min_new_tokens', int),
  'forced_bos_token_id': ('forced_first', int),
}
LISTS = {
  'suppress_tokens': 'suppress',
  'begin_suppress_tokens': 'suppress_first',
}
SAMPLING = ('temperature', 'top_k', 'top_p')
IDS = (
  'bos_token_id',
  'decoder_start_token_id',
  'eos_token_id',
  'pad_token_id',
)
LENGTHS = ('max_length', 'max_new_tokens')
BEAMS = ('early_stopping', 'length_penalty', 'num_beams')
HONOURED = (
  *DIRECT,
  *LISTS,
  *SAMPLING,
  *IDS,
  *LENGTHS,
  *BEAMS,
  'bad_words_ids',
  'do_sample',
  'forced_eos_token_id',
  'sequence_bias',
)

# Keys that are refused, and the values that change nothing, besides null.
ONLY: dict[str, tuple[Any, ...]] = {
  'assistant_early_exit': (),
  'assistant_ensemble_weight': (),
  'constraints': (),
  'dola_layers': (),
  'encoder_no_repeat_ngram_size': (0,),
  'encoder_repetition_penalty': (1.0,),
  'exponential_decay_length_penalty': (),
  'force_bos_token_to_be_generated': (False,),
  'force_words_ids': (),
  'forced_decoder_ids': (),
  'guidance_scale': (1.0,),
  'max_time': (),
  'num_return_sequences': (1,),
  'penalty_alpha': (0.0,),
  'prompt_lookup_num_tokens': (),
  'speculation_type': (),
  'stop_strings': (),
  'token_healing': (False,),
  'use_mtp': (False,),
  'watermarking_config': (),
}
# The same for keys of sampling alone, and for keys of beam search alone.
ONLY_SAMPLING: dict[str, tuple[Any, ...]] = {
  'epsilon_cutoff': (0.0,),
  'eta_cutoff': (0.0,),
  'min_p': (0.0,),
  'top_h': (),
  'typical_p': (1.0,),
}
ONLY_BEAMS: dict[str, tuple[Any, ...]] = {
  'diversity_penalty': (0.0,),
  'num_beam_groups': (1,),
  'renormalize_logits': (False,),
}

# Values of honoured keys that change nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
  'do_sample': (False,),
  'max_length': (20,),
  'min_length': (0,),
  'min_new_tokens': (0,),
  'no_repeat_ngram_size': (0,),
  'num_beams': (1,),
  'repetition_penalty': (1.0,),
}

# Keys about speed, memory, further outputs or the file itself.
IRRELEVANT = (
  '_commit_hash',
  '_from_model_config',
  '_original_object_hash',
  'assistant_confidence_threshold',
  'assistant_lookbehind',
  'cache_config',
  'cache_implementation',
  'compile_config',
  'continuous_batching_config',
  'disable_compile',
  'is_assistant',
  'low_memory',
  'max_cache_len',
  'max_matching_ngram_size',
  'num_assistant_tokens',
  'num_assistant_tokens_schedule',
  'output_attentions',
  'output_hidden_states',
  'output_logits',
  'output_scores',
  'prefill_chunk_size',
  'remove_invalid_values',
  'return_dict_in_generate',
  'target_lookbehind',
  'transformers_version',
  'use_cache',
)
# Keys that only Whisper has, see `speech_recognizers`.
SPEECH = (
  'alignment_heads',
  'forced_decoder_ids',
  'is_multilingual',
  'lang_to_id',
  'language',
  'max_initial_timestamp_index',
  'median_filter_width',
  'no_timestamps_token_id',
  'prev_sot_token_id',
  'task',
  'task_to_id',
)
ONLY_SPEECH: dict[str, tuple[Any, ...]] = {
  'do_sample': (False,),
  'num_beams': (1,),
  'prompt_ids': (),
  'return_timestamps': (False,),
}

# All of these keys may be in the config.json of a folder without the file. Its
# parts have the defaults below, which transformers 4 wrote into each part.
KEYS = (*HONOURED, *ONLY, *ONLY_SAMPLING, *ONLY_BEAMS)
OLD_DEFAULTS = {
  'max_length': 20,
  'temperature': 1.0,
  'top_k': 50,
  'top_p': 1.0,
}
