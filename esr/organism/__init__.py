"""The embedded model organism: corpus, tokenizer, training, dictionary and gates.

A small model trained by this package on its own synthetic corpus, so that every experiment runs
end to end in minutes on a real model. It demonstrates the pipeline and proves nothing about
large models; its resistance to steering is taught (``data/organism/README.md``).
"""
