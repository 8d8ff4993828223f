"""Fine-tuning that induces self-correction (paper 3.5, A.3.5): texts, masks, LoRA, merge."""
