"""Tokens that stand for images, videos and sounds in conversations."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import tokenizers
from mmjax.data.features import media_kinds, turn_checks, turn_media


def list_tokens(feature: Any) -> dict[str, str]:
  """The placeholder of each type of part, such as 'image'.

  Args:
    feature: the conversation's feature.
  """
  return {
    media_kinds.PARTS[setting]: getattr(
      feature, media_kinds.PLACEHOLDERS[setting]
    )
    for setting in media_kinds.name_media(feature)
  }


def list_marks(feature: Any) -> dict[str, str]:
  """What the chat template writes for each type of part."""
  tokens = list_tokens(feature)
  if feature.image_mark and 'image' in tokens:
    tokens['image'] = feature.image_mark
  return tokens


def list_parts(feature: Any) -> dict[str, Sequence[str]]:
  """The texts and tokens that are read for each type of part."""
  parts = {kind: (token,) for kind, token in list_tokens(feature).items()}
  if feature.image_text and 'image' in parts:
    parts['image'] = feature.image_text
  return parts


def find_ids(feature: Any) -> dict[str, int]:
  """The placeholder's id of each type of part.

  Raises:
    ConfigError: if the tokenizer doesn't have it.
  """
  found = {}
  for kind, token in list_tokens(feature).items():
    token_id = feature.tokenizer.find_id(token)
    if token_id is None:
      word = next(w for w, part in media_kinds.PARTS.items() if part == kind)
      feature.refuse(
        media_kinds.PLACEHOLDERS[word], 'is not a token of the tokenizer'
      )
    found[kind] = token_id
  return found


def encode_part(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
  """Ids of a text between the tokens of an image, most often one token."""
  found = tokenizer.find_id(text)
  return tokenizer.encode_words(text) if found is None else [found]


def expand(
  feature: Any,
  turns: Sequence[Mapping],
  ids: Sequence[int],
  loss_mask: Sequence[bool],
) -> tuple[list[int], list[bool]]:
  """Writes each placeholder as the tokens of its image, and those around them.

  Nobody says them, so none is learnt.

  Args:
    feature: the conversation's feature.
    turns: its placed turns.
    ids: ids of a text with one placeholder an image, video or sound.
    loss_mask: bool for each of them.

  Raises:
    ConfigError: if the placeholders are not those of what the turns have.
  """
  own_ids = find_ids(feature)
  placed = turn_media.list_placed(turns)
  known = frozenset(own_ids.values())
  found = [token_id for token_id in ids if token_id in known]
  wanted = [own_ids[item.part] for item in placed]
  if found != wanted:
    turn_checks.refuse_placeholders(feature, turns, found, wanted)
  remaining = iter(placed)
  out: list[int] = []
  said: list[bool] = []
  for own_id, is_learnt in zip(ids, loss_mask, strict=True):
    own = [own_id]
    if own_id in known:
      own = [
        written
        for part in next(remaining).text
        for written in (
          [own_id] * part
          if isinstance(part, int)
          else encode_part(feature.tokenizer, part)
        )
      ]
    out += own
    said += [is_learnt and own_id not in known] * len(own)
  return out, said
