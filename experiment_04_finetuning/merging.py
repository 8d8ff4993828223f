"""From adapter to a model folder that every engine loads like any other."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.models import ModelSpec
from esr.models.weights import cannot_load

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def load_base(spec: ModelSpec) -> PreTrainedModel:
    """The base model: bfloat16 on a GPU, float32 on the CPU.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            spec.hf_id,
            revision=spec.revision,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
        )
    except (OSError, ValueError) as error:
        raise cannot_load(spec, error) from error
    return model.to("cuda") if on_gpu else model


def release() -> None:
    """Give back the memory of models that nothing refers to any more.

    A Trainer and its model refer to each other, so they outlive the call that made them; and
    PyTorch keeps a GPU's memory for itself, which the engine of an evaluation would not find free.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def merge(model: PeftModel, tokenizer: Any, folder: Path) -> Path:
    """Add the update to the weights and write model and tokenizer; the adapter is gone after.

    The folder appears whole or not at all.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    merged = model.merge_and_unload()
    merged.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    return partial.rename(folder)
