#!/usr/bin/env bash
# Measure the base model and every fine-tuned one, steered and not: bash run_esr.sh [MODEL] [options]
set -euo pipefail
exec "${PYTHON:-python}" -m experiment_04_finetuning evaluate "$@"
