#!/usr/bin/env bash
# Fine-tune on every mix and merge: bash train.sh [MODEL] [options]
set -euo pipefail
exec "${PYTHON:-python}" -m experiment_04_finetuning train "$@"
