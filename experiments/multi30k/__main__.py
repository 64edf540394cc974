"""Train (or resume) a Multi30k English-German model, translate test2016 and score with sacrebleu.

    python -m experiments.multi30k [--dir runs/multi30k-t5] [--config.train.steps=...]

Needs the original files (GENJAX_ORIGINALS) and the optional group `peers` (sacrebleu, sacremoses).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax import data, files, kinds, settings
from genjax.workflows import assemble, sample, train

CONFIG = "multi30k/t5"
BEAMS = 5


def translations(
    trained: assemble.Trained, split: Any, options: dict[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """Return (sources, translations, references) of every row of a split, as text."""
    spec = trained.experiment.dataset.spec
    (source,) = [name for name, _ in kinds.shown(spec, spec.conditions)]
    target = kinds.main_target(spec)
    assert target is not None
    rows = split.rows(np.arange(len(split)))
    given = {name: rows[name] for name in spec.conditions}
    drawn = sample.draw(trained, len(split), conditions=given, options=options)
    return (
        texts(trained, rows, source),
        [text.strip() for text in texts(trained, drawn, target)],
        texts(trained, rows, target),
    )


def texts(trained: assemble.Trained, rows: Mapping[str, np.ndarray], name: str) -> list[str]:
    """Return an element of each row as text."""
    dataset = trained.experiment.dataset
    found = kinds.captions(kinds.fields(dataset.spec, rows, (name,), dataset.tokenizer))
    assert found is not None
    return found


def bleu(hypotheses: Sequence[str], references: Sequence[str], language: str = "de") -> dict[str, Any]:
    """Compute BLEU in two ways: cased and detokenised, and lower-cased on Moses tokens.

    The first is sacrebleu's default, with its signature; published Multi30k figures are of the second kind.
    Wu et al. 2021 (arXiv:2105.14462) report fairseq's corpus BLEU of the tokens of their data (beam 5,
    average of the last 10 checkpoints). Here the model writes cased text: its output and the references are
    normalised, tokenised and lower-cased afterwards.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    cased = BLEU()
    first = cased.corpus_score(list(hypotheses), [list(references)])
    normalize = MosesPunctNormalizer(lang=language)
    tokenize = MosesTokenizer(lang=language)

    def plain(lines: Sequence[str]) -> list[str]:
        return [
            " ".join(tokenize.tokenize(normalize.normalize(line), escape=False)).lower() for line in lines
        ]

    lowered = BLEU(tokenize="none", force=True)
    second = lowered.corpus_score(plain(hypotheses), [plain(references)])
    return {
        "cased": {"bleu": first.score, "signature": str(cased.get_signature()), "detail": str(first)},
        "lowercased_tokenized": {
            "bleu": second.score,
            "signature": f"{lowered.get_signature()} on lower-cased Moses tokens (sacremoses)",
            "detail": str(second),
        },
    }


def main() -> None:
    """Train or resume the run, translate the split, and write and print BLEU and the translations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", default="runs/multi30k-t5")
    parser.add_argument("--split", default="test", help="split to translate: validation or test")
    parser.add_argument("--beams", type=int, default=BEAMS)
    parser.add_argument("--length-penalty", type=float, default=1.0)
    parser.add_argument("--only-score", action="store_true")
    args, rest = parser.parse_known_args()
    directory = Path(args.dir)
    if not args.only_score:
        overrides = tuple(item.removeprefix("--config.") for item in rest)
        train.train(settings.complete(settings.load(CONFIG, overrides)), directory)
    trained = assemble.restore(directory)
    held = data.load(dataclasses.replace(trained.experiment.settings.data, eval_split=args.split)).eval
    options = {"beams": args.beams, "length_penalty": args.length_penalty}
    sources, hypotheses, references = translations(trained, held, options)
    found = {"split": args.split, "rows": len(held), **options, "step": trained.step}
    found |= bleu(hypotheses, references)
    files.write_json(directory / f"bleu_{args.split}.json", found)
    lines = [f"{s}\n  {h}\n  ({r})\n" for s, h, r in zip(sources, hypotheses, references, strict=True)]
    files.write_text(directory / f"translations_{args.split}.txt", "\n".join(lines))
    print(json.dumps(found, indent=1, ensure_ascii=False))
    print("\n".join(lines[:8]))


if __name__ == "__main__":
    main()
