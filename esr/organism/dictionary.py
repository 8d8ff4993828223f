"""The organism's SAE and its labels.

A BatchTopK SAE trained by SAELens on the residual stream of the finished, unsteered model over
its corpus, saved as a JumpReLU SAE. Labels come from the words and topics a latent fires on.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esr.organism.corpus import SPECIAL, Document, frame_label, label_text
from esr.organism.lexicon import Topic
from esr.organism.perturbations import pad
from esr.organism.recipe import DictionaryConfig

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


@torch.no_grad()
def residuals(
    model: LlamaForCausalLM, documents: Sequence[Document], index: Mapping[str, int], layer: int
) -> tuple[Tensor, Tensor]:
    """Residual stream at the output of ``layer`` for every token.

    Returns:
        [n_tokens, d_model] float32, and [n_tokens, 2] int64: number of the document, position.
    """
    rows, places = [], []
    order = sorted(range(len(documents)), key=lambda i: len(documents[i].tokens))
    for start in range(0, len(order), 64):
        chunk = order[start : start + 64]
        ids, _ = pad([documents[i] for i in chunk], index)
        hidden = model.model(input_ids=ids, output_hidden_states=True).hidden_states[layer + 1]
        for row, number in enumerate(chunk):
            length = len(documents[number].tokens)
            rows.append(hidden[row, :length].float())
            places.append(torch.stack([torch.full((length,), number), torch.arange(length)], 1))
    return torch.cat(rows), torch.cat(places)


def train_dictionary(
    vectors: Tensor, config: DictionaryConfig, seed: int, folder: Path
) -> dict[str, float]:
    """Train an SAE on ``vectors`` [n_tokens, d_model] and write it as a SAELens folder.

    Returns:
        Figures of the saved SAE over a sample of ``vectors``: share of variance unexplained,
        latents per token, latents that never fire.
    """
    from sae_lens import SAE, BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    generator = torch.Generator().manual_seed(seed)

    def provider() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(vectors), generator=generator)
            for start in range(0, len(order) - config.batch + 1, config.batch):
                yield vectors[order[start : start + config.batch]]

    steps = config.samples // config.batch
    trainer_config = SAETrainerConfig(
        total_training_samples=config.samples,
        train_batch_size_samples=config.batch,
        lr=config.learning_rate,
        lr_end=0.0,
        lr_warm_up_steps=steps // 20,
        lr_decay_steps=steps // 3,
        dead_feature_window=100,
        logger=LoggingConfig(log_to_wandb=False),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sae = BatchTopKTrainingSAE(
            BatchTopKTrainingSAEConfig(
                d_in=vectors.shape[1],
                d_sae=config.d_sae,
                k=config.k,
                normalize_activations="expected_average_only_in",
            )
        )
        trained = SAETrainer(trainer_config, sae, provider()).fit()
    shutil.rmtree(folder, ignore_errors=True)
    trained.save_inference_model(str(folder))
    _halve(folder / "sae_weights.safetensors")
    return measure_dictionary(SAE.load_from_disk(str(folder)), vectors[:50_000])


def _halve(path: Path) -> None:
    """Store weights as float16, half the bytes in the repository; loaders go back to float32."""
    from safetensors.torch import load_file, save_file

    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)


@torch.no_grad()
def measure_dictionary(sae: Any, vectors: Tensor) -> dict[str, float]:
    """Reconstruction and sparsity of an SAE over ``vectors`` [n_tokens, d_model]."""
    active = sae.encode(vectors)
    error = (vectors - sae.decode(active)).pow(2).sum()
    fired = active > 0
    return {
        "unexplained_variance": float(error / (vectors - vectors.mean(0)).pow(2).sum()),
        "latents_per_token": float(fired.sum() / len(vectors)),
        "silent_latents": int((~fired.any(0)).sum()),
    }


def describe_latents(
    active: Tensor,
    places: Tensor,
    documents: Sequence[Document],
    topics: Mapping[str, Topic],
    min_share: float,
) -> dict[int, str]:
    """A label for every latent that fires.

    Args:
        active: [n_tokens, d_sae] activations over documents that stay on topic.
        places: [n_tokens, 2] document number and position, as :func:`residuals` returns them.
        documents: what ``places`` points into.
        topics: the world.
        min_share: see :class:`DictionaryConfig`.
    """
    keys = list(topics)
    words = sorted({word for document in documents for word in document.tokens})
    topic_of = {key: number for number, key in enumerate(keys)}
    word_of = {word: number for number, word in enumerate(words)}
    numbers, positions = places.T.tolist()
    by_topic = _mass(active, [topic_of[documents[n].topic] for n in numbers], len(keys))
    by_word = _mass(
        active,
        [word_of[documents[n].tokens[p]] for n, p in zip(numbers, positions, strict=True)],
        len(words),
    )
    labels = {}
    for latent in (active > 0).any(0).nonzero()[:, 0].tolist():
        mass = by_topic[:, latent]
        topic = topics[keys[int(mass.argmax())]]
        order = by_word[:, latent].argsort(descending=True, stable=True).tolist()
        fired = [words[n] for n in order if by_word[n, latent] > 0]
        if mass.max() >= min_share * mass.sum():
            own = [word for word in fired if word in topic.words]
            rest = [word for word in topic.words if word not in own]
            labels[latent] = label_text(topic, own + rest)
        else:
            frame = [word for word in fired if word not in SPECIAL and word.isalpha()]
            labels[latent] = frame_label(frame or ["the"])
    return labels


def _mass(active: Tensor, groups: Sequence[int], n_groups: int) -> Tensor:
    """Activation summed over the tokens of each group: [n_groups, d_sae]."""
    total = torch.zeros(n_groups, active.shape[1])
    return total.index_add_(0, torch.tensor(groups), active)


def write_labels(labels: Mapping[int, str], path: Path) -> None:
    """CSV with the header ``index,description``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "description"])
        writer.writerows(sorted(labels.items()))
