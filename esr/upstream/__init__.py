"""The authors' own prompts, meta-prompts and rubric, fetched and written in our formats.

``python -m esr.upstream fetch`` downloads the files that ``data/upstream.json`` lists, at one
commit and with their SHA-256, into ``data/upstream/`` (git-ignored). They are parsed, never
executed; what is read from them stands beside them as ``prompts.json`` and ``rubric.toml``, which
``--prompts upstream`` and ``--rubric upstream`` name. ``python -m esr.upstream labels MODEL``
downloads a model's latent labels.
"""
