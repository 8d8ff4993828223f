"""ESR for Inspect: a model provider on our engine, a task, and a scorer with attempts.

``inspect eval esr/esr --model esr/tiny`` replays the trials of a run of experiment 1: the samples
are its latents at their thresholds, steered per sample. Needs ``pip install .[inspect]``
(https://inspect.aisi.org.uk).
"""
