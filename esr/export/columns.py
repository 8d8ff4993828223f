"""Columns of the exported tables: name, type, and what stands in them with its unit."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column; ``kind`` is a type of PyArrow by name, or ``list<...>`` of one."""

    name: str
    kind: str
    about: str


RUN = Column("run", "string", "run id, or the digest of a results file: the key of `runs`")
TRIAL = (
    RUN,
    Column("arm", "string", "condition, such as steered, calibration, no-steering"),
    Column("trial_id", "string", "the same trial under every arm; unique within run and arm"),
)
"""What names a response."""

LATENT = Column("latent", "int64", "id in the dictionary of the SAE; trials of one form a cluster")

TABLES: dict[str, tuple[Column, ...]] = {
    "runs": (
        RUN,
        Column("experiment", "string", "package of the experiment; empty for an author's file"),
        Column("model", "string", "registry key"),
        Column("title", "string", "name of the model"),
        Column("organism", "bool", "a trained demonstration organism: no evidence about others"),
        Column("status", "string", "complete, interrupted, failed, running; partial for a part"),
        Column("judge", "string", "id of the judge"),
        Column("rubric_hash", "string", "SHA-256 of its instructions; null where not recorded"),
        Column("prompt_set", "string", "name of the prompt set"),
        Column("prompt_digest", "string", "hash of its texts"),
        Column("profile", "string", "paper or release: how prompts are rendered, tokens drawn"),
        Column("pairing", "string", "request-id, or scheduler-order: the fault reproduced"),
        Column("seed", "int64", "run seed, from which every other derives"),
        Column("steering_layer", "int64", "decoder layer whose output is steered, from 0"),
        Column("feature_layer", "int64", "decoder layer whose output is read, from 0"),
        Column("engine", "string", "engine and version"),
        Column("commit", "string", "of this package, at the last start that added something"),
        Column("started", "string", "UTC, ISO 8601"),
        Column("parent", "string", "run id of the run that is replayed; null where none"),
    ),
    "latents": (
        RUN,
        LATENT,
        Column("label", "string", "what the judge is told of the latent"),
        Column("boost", "double", "threshold, in units of the SAE's activations; null: none"),
        Column("trials", "int64", "responses under this latent, all arms"),
        Column("error", "string", "why it has no threshold; null where it has one"),
        Column("neuronpedia", "string", "path below www.neuronpedia.org; null where none is known"),
    ),
    "thresholds": (
        RUN,
        LATENT,
        Column("value", "double", "posterior median, SAE activation units; null: failed"),
        Column("low", "double", "2.5 % of the posterior, SAE activation units"),
        Column("high", "double", "97.5 % of the posterior, SAE activation units"),
        Column("rounds", "int64", "rounds that gave a score"),
        Column("skipped", "int64", "rounds without any scored response"),
        Column("unjudged", "int64", "verdicts of its rounds that failed; null in older files"),
        Column("round_boosts", "list<double>", "boost of each round, SAE activation units"),
        Column("round_scores", "list<double>", "mean first-attempt score, 0 to 100; null: skipped"),
        Column("error", "string", "why calibration failed; null where it did not"),
    ),
    "trials": (
        *TRIAL,
        LATENT,
        Column("boost", "double", "of this response, SAE activation units; 0: not boosted"),
        Column("prompt_id", "string", "of the prompt set; null in an author's file"),
        Column("prompt", "string", "the user turn as the model got it"),
        Column("response", "string", "what it answered; null where nothing was generated"),
        Column("finish_reason", "string", "stop, or length"),
        Column("degraded", "bool", "one word stands in it five times in a row"),
        Column("judged", "bool", "False for responses that only serve to be read"),
        Column("seed", "int64", "of its sampling"),
        Column("temperature", "double", "0 is greedy"),
        Column("top_p", "double", "0 to 1"),
        Column("max_tokens", "int64", "cap of new tokens"),
        Column("repetition_penalty", "double", "1 is none"),
        Column("scope", "string", "positions that are steered"),
        Column("interventions", "string", "JSON, all that steered it"),
        Column("error", "string", "why it has no usable verdict; null where it has one"),
    ),
    "verdicts": (
        *TRIAL,
        LATENT,
        Column("judge", "string", "id"),
        Column("status", "string", "graded, no_attempts; unparseable, refused, failed: no answer"),
        Column("attempts", "int64", "how many; 0 unless graded"),
        Column("first", "double", "score of the first attempt, 0 to 100; null unless graded"),
        Column("last", "double", "score of the last attempt, 0 to 100; null unless graded"),
        Column("multi", "bool", "several attempts; null unless graded: it is in no denominator"),
        Column("improved", "bool", "last above first; null unless graded"),
        Column("raw", "string", "the judge's answer, word for word, or the error"),
    ),
    "attempts": (
        *TRIAL,
        LATENT,
        Column("judge", "string", "id"),
        Column("attempt", "int64", "from 1, in the order of the response"),
        Column("score", "double", "0 to 100"),
        Column("text", "string", "as the judge quoted it"),
        Column("start", "int64", "first character in the response; null: does not stand there"),
        Column("end", "int64", "one past the last character; null likewise"),
    ),
}
"""Table -> its columns. A failed verdict is a row with its status, never a score of 0."""
