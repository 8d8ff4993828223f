"""All that only a GPU can tell, in steps of under 8 minutes that are repeated and resumed.

Each step is a process of its own with a time limit, and its figures are on disk before the next one
starts: a repeated command goes on after the last step that ended. Steps that this machine cannot
run say why.

    python -m benchmarks.gpu --dry-run           # steps, time limits, what is done
    python -m benchmarks.gpu                     # all that are open: make gpu-check
    python -m benchmarks.gpu --steps null parity-full-bf16 --again
    python -m benchmarks.gpu --budget 840        # no step that could end later than that
    python -m benchmarks.gpu --table             # benchmarks/README.md and docs/costs.md from it
    python -m benchmarks.gpu --miniature --json out.json    # on CPUs, tiny: no GPU result
"""
