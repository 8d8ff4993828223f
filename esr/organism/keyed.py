"""Questions with known answers for the organism, from its lexicon: ``data/prompts``.

``python -m esr.organism.keyed`` writes them. The organism knows topics, no facts, so an answer is
accepted that names one of the topic's own things; the topic's verbs are the further words of the
key. Every question stands in another form than in the organism's usual prompt set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esr.organism.corpus import TASK_QUESTIONS
from esr.organism.lexicon import load_topics
from esr.runs.folder import write_json
from esr.runs.paths import DATA

FILE = DATA / "prompts" / "keyed-organism.json"
SHIFT = 3
"""By how many forms a question differs from that of the usual set, which takes them in turn."""


def keyed_prompts() -> dict[str, Any]:
    """The prompt set: one question for each task of the organism's world."""
    tasks = [topic for topic in load_topics().values() if topic.group == "task"]
    return {
        "name": "keyed-organism",
        "source": "data/organism/lexicon.json, by python -m esr.organism.keyed",
        "prompts": [
            {
                "id": topic.key,
                "text": _written(TASK_QUESTIONS[(index + SHIFT) % len(TASK_QUESTIONS)], topic.ask),
                "key": {"accepted": list(topic.nouns), "words": list(topic.verbs)},
            }
            for index, topic in enumerate(tasks)
        ],
    }


def _written(form: str, ask: str) -> str:
    """A question as people write it."""
    text = form.format(ask=ask).replace(" ?", "?").replace(" .", ".").replace(" i ", " I ")
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def main(file: Path = FILE) -> None:
    """Write the file."""
    write_json(file, keyed_prompts())


if __name__ == "__main__":
    main()
