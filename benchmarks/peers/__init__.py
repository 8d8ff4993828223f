"""The table of peers: ours and other ways to generate with a vector per request.

Every arm has the same weights, prompts, response lengths and greedy sampling, and boosts each
request by a latent of its own at the same layer. The arms alternate within each round, with nothing
else running; the result is medians over rounds, and for each arm on how many requests it gives the
same tokens as ours.

    python -m benchmarks.peers                  # the organism and a random Llama of 152M
    python -m benchmarks.peers tiny --rounds 3
    python -m benchmarks.peers --distinct       # K distinct configurations in one batch of 256
    python -m benchmarks.peers --table          # the tables of benchmarks/README.md from the files

nnsight and steering-vectors are optional: benchmarks/peers/requirements.txt.
"""
