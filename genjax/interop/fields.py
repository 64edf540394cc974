"""Names in config.json that have no effect on what is read, and the checks of names and classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from genjax.errors import ConfigError

log = logging.getLogger("genjax")

LABELS = (
    "architectures", "dtype", "finetuning_task", "id2label", "label2id", "model_type", "name_or_path",
    "num_labels", "problem_type", "task_specific_params", "tokenizer_class", "torch_dtype",
    "transformers_version",
)  # fmt: skip
"""Names, types and labels. The tensors carry their own types; heads with labels are left out."""
OUTPUTS = (
    "chunk_size_feed_forward", "gradient_checkpointing", "is_encoder_decoder", "output_attentions",
    "output_hidden_states", "output_past", "return_dict", "torchscript", "use_bfloat16", "use_cache",
)  # fmt: skip
"""What a call returns, and how it is computed."""
GENERATION = (
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "diversity_penalty", "do_sample",
    "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "min_length",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
    "pad_token_id", "prefix", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate",
    "sep_token_id", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
)  # fmt: skip
"""Settings of transformers' generate, and ids of special tokens, which genjax reads from tokenizer.json."""
IGNORED = frozenset((*LABELS, *OUTPUTS, *GENERATION))


def check_names(config: Mapping[str, Any], read: Iterable[str], ignored: Iterable[str], where: str) -> None:
    """Name the fields of config.json that are neither read nor known to have no effect, in a warning."""
    known = {*read, *ignored, *IGNORED}
    left = sorted(name for name in config if name not in known and not name.startswith("_"))
    if left:
        log.warning("%s: config.json has fields that genjax does not know: %s", where, ", ".join(left))


def check_classes(config: Mapping[str, Any], refused: Mapping[str, str], where: str) -> None:
    """Refuse a config.json whose `architectures` has a class that cannot be read.

    Args:
      refused: {class of transformers: why it cannot be read}.

    Raises:
      ConfigError: names the class.
    """
    named = config.get("architectures")
    for name in map(str, named if isinstance(named, list) else ()):
        if name in refused:
            raise ConfigError(
                f"{where}: config.json has architectures={name!r}, which is not supported: {refused[name]}",
                "give a directory of one of the classes that docs/guides/huggingface.md lists as imported",
            )
