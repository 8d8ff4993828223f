"""A model file that is in order, and every way in which one thing of it can be spoiled."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

A_MODEL = """\
key = "mine"
hf_id = "./weights"
steering_layer = 3
feature_layer = 3
dtype = "float32"
labels = "labels.csv"
prompt_set = "organism"
judge = "lexical"
max_tokens = 96
context = 255
n_latents = 12
n_trials = 5

[sae]
folder = "./sae"

[calibration]
rounds = 10
prompts_per_round = 1
prior_mean = 330.0
prior_sd = 330.0
low = 0.0
high = 1650.0
max_tokens = 96

[profiles.paper]
repetition_penalty = 1.0
"""


SHAPE = """
[shape]
layers = 6
heads = 3
kv_heads = 3
head_dim = 64
ffn = 9
vocabulary = 1153
"""


Spoil = Callable[[Path], object]


State = dict[str, torch.Tensor]


def edit(old: str, new: str) -> Spoil:
    """Replace a text of the model file."""

    def spoil(folder: Path) -> None:
        text = (folder / "my.toml").read_text(encoding="utf-8")
        assert old in text
        (folder / "my.toml").write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


def added(text: str) -> Spoil:
    return edit("[sae]", f"{text}\n\n[sae]")


def written(name: str, content: str | bytes) -> Spoil:
    """Replace a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def appended(text: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with (folder / "my.toml").open("a", encoding="utf-8") as file:
            file.write(text)

    return spoil


def removed(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def tensors(change: Callable[[State], object]) -> Spoil:
    """Change the dictionary's weights."""

    def spoil(folder: Path) -> None:
        path = folder / "sae" / "sae_weights.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return spoil


def configured(name: str, **values: object) -> Spoil:
    """Change values of a JSON file."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**data, **values}), encoding="utf-8")

    return spoil


def set_to(name: str, value: float) -> Callable[[State], object]:
    return lambda state: state[name].view(-1)[:5].fill_(value)


def narrowed(state: State) -> None:
    state["W_enc"] = state["W_enc"][:64].contiguous()


def renamed(state: State) -> None:
    state["W_unknown"] = state.pop("W_enc")


def in_order(*spoils: Spoil) -> Spoil:
    def spoil(folder: Path) -> None:
        for each in spoils:
            each(folder)

    return spoil


HUB = in_order(removed("weights"), edit('"./weights"', '"lab/model"'))


FAULTS: dict[str, tuple[Spoil, str]] = {
    # layers
    "steering layer": (edit("steering_layer = 3", "steering_layer = 99"), "steering layer 99"),
    "feature layer": (edit("feature_layer = 3", "feature_layer = 6"), "feature layer 6.*0 to 5"),
    "negative layer": (edit("steering_layer = 3", "steering_layer = -1"), "-1; allowed: 0 or more"),
    "profile's layer": (
        edit("repetition_penalty = 1.0", "steering_layer = 7"),
        "steering layer 7 does not exist; allowed: 0 to 5",
    ),
    "layer beyond the shape": (
        in_order(edit("steering_layer = 3", "steering_layer = 8"), appended(SHAPE)),
        "steering_layer is 8; allowed: 0 to 5",
    ),
    # dictionary
    "SAE missing": (removed("sae"), r"line 15: sae.folder is .*SAELens' cfg.json"),
    "SAE without weights": (removed("sae/sae_weights.safetensors"), "SAE .* cannot be loaded"),
    "SAE cut short": (written("sae/sae_weights.safetensors", b"\x00" * 40), "cannot be loaded"),
    "SAE's cfg.json": (written("sae/cfg.json", "{"), "not a SAELens configuration .not JSON"),
    "SAE's cfg.json, a list": (written("sae/cfg.json", "[]"), "not a SAELens configuration"),
    "SAE of NaN": (tensors(set_to("W_dec", float("nan"))), "W_dec: 5 of .* are NaN or infinite"),
    "SAE of inf": (tensors(set_to("W_enc", float("inf"))), "W_enc: 5 of .* are NaN or infinite"),
    "SAE of zeros": (tensors(lambda state: state["W_dec"].zero_()), "all numbers are 0"),
    "SAE of another shape": (tensors(narrowed), "SAE .* cannot be loaded: .*W_enc"),
    "SAE without encoder": (tensors(renamed), "SAE .* cannot be loaded: .*W_enc"),
    "SAE of another width": (
        in_order(configured("sae/cfg.json", d_in=64)),
        "cannot be loaded",
    ),
    "SAE that competes": (
        configured("sae/cfg.json", architecture="topk", k=8),
        "SAE .* (is of type 'topk'|cannot be loaded)",
    ),
    "SAE unknown to SAELens": (
        configured("sae/cfg.json", architecture="dreamt"),
        "SAE .* cannot be loaded: .*dreamt",
    ),
    "SAE that rescales": (
        configured("sae/cfg.json", normalize_activations="layer_norm"),
        "rescales its input",
    ),
    "d_model of another": (added("d_model = 64"), r"d_model is 64; allowed: 192"),
    "d_sae of another": (added("d_sae = 99"), "d_sae is 99; allowed: 1024"),
    "SAE release": (
        edit('folder = "./sae"', 'release = "goodfire-llama"\nsae_id = "layer_19"\n'),
        "d_model is missing",
    ),
    "SAE release unknown": (
        in_order(
            edit('folder = "./sae"', 'release = "gemma-scope-2b-pt-ress"\nsae_id = "layer_19"'),
            edit("n_trials", "d_model = 192\nd_sae = 1024\nn_trials"),
        ),
        "unknown SAELens release 'gemma-scope-2b-pt-ress'.*did you mean 'gemma-scope-2b-pt-res'",
    ),
    "SAE id unknown": (
        in_order(
            edit(
                'folder = "./sae"',
                'release = "goodfire-llama-3.1-8b-instruct"\nsae_id = "layer_20"',
            ),
            edit("n_trials", "d_model = 192\nd_sae = 1024\nn_trials"),
        ),
        "unknown SAE of release goodfire.* 'layer_20'; allowed: layer_19",
    ),
    # judge, prompts, labels
    "judge": (edit('"lexical"', '"lexicla"'), "unknown judge 'lexicla'"),
    "prompt set": (
        edit('"organism"', '"organsim"'),
        "no prompt set 'organsim'.*how-to, keyed, keyed-organism, organism, held-out",
    ),
    "prompt set, not JSON": (
        in_order(edit('"organism"', '"./P.json"'), written("P.json", "{")),
        r"no prompt set './P.json'",
    ),
    "labels missing": (removed("labels.csv"), "no latent labels at .*labels.csv"),
    "labels a folder": (edit('"labels.csv"', '"sae"'), "no latent labels at .*sae"),
    "labels of other columns": (written("labels.csv", "id,text\n1,a\n"), "no column description"),
    "labels of another width": (
        written("labels.csv", "index,description\n1024,cats\n"),
        "line 2: index '1024'; allowed: each latent once, 0 to 1023",
    ),
    "labels twice": (
        written("labels.csv", "index,description\n1,cats\n1,dogs\n"),
        "line 3: index '1' stands twice",
    ),
    "labels too few": (
        written("labels.csv", "index,description\n1,cats\n"),
        "labels of 1 latents, n_latents is 12",
    ),
    "labels in JSON": (written("labels.csv", '{"1": "cats"}'), "no column"),
    "labels in Latin-1": (written("labels.csv", b"index,description\n1,\xe9\n"), "UTF-8"),
    # weights, tokenizer
    "weights missing": (removed("weights"), "model folder .* does not exist"),
    "weights without config": (removed("weights/config.json"), "has no config.json"),
    "weights without weights": (removed("weights/model.safetensors"), "has no weights"),
    "config.json": (written("weights/config.json", "{"), "model .* cannot be loaded"),
    "config.json, no model": (written("weights/config.json", "{}"), "model .* cannot be loaded"),
    "another width": (
        configured("weights/config.json", hidden_size=96),
        "SAE has width 192, .* 96",
    ),
    "tokenizer missing": (
        in_order(removed("weights/tokenizer.json"), removed("weights/tokenizer_config.json")),
        "tokenizer of model .* cannot be loaded",
    ),
    "tokenizer not JSON": (
        written("weights/tokenizer.json", "{"),
        "tokenizer of .* cannot be loaded",
    ),
    "no chat template": (removed("weights/chat_template.jinja"), "has no chat template"),
    "template that fails": (
        written("weights/chat_template.jinja", "{{ messages[7].content }}{% frob %}"),
        "chat template fails",
    ),
    "template without question": (
        written("weights/chat_template.jinja", "<user> hello"),
        "leaves out the question",
    ),
    "revision of a folder": (added('revision = "v2"'), "revision is 'v2', but .* is a folder"),
    "unknown chat template": (
        edit("repetition_penalty = 1.0", 'chat_variant = "chatml"'),
        "chat_variant is 'chatml'; allowed: 'template' or 'llama-double-header'",
    ),
    "chat of another model": (
        edit("repetition_penalty = 1.0", 'chat_variant = "llama-double-header"'),
        "writes token 128007, which this model does not have",
    ),
    "shape of another": (
        appended(SHAPE),
        "shape.ffn is 9, the model's config.json has 384",
    ),
    # numbers
    "context of 0": (edit("context = 255", "context = 0"), "context is 0; allowed: above 0"),
    "context too small": (
        edit("context = 255", "context = 97"),
        "a prompt of .* tokens and an answer of 96 exceed the context",
    ),
    "answer beyond the context": (
        edit("max_tokens = 96", "max_tokens = 400"),
        "max_tokens is 400; allowed: below the context",
    ),
    "no answer": (edit("max_tokens = 96", "max_tokens = 0"), "max_tokens is 0; allowed: above 0"),
    "dtype": (edit('"float32"', '"float8"'), "dtype is 'float8'; allowed: 'float32', 'bfloat16'"),
    "quantization": (added('quantization = "fp8_per_tensr"'), "did you mean 'fp8_per_tensor'"),
    "n_latents of 0": (edit("n_latents = 12", "n_latents = 0"), "n_latents is 0; allowed: above 0"),
    "n_latents beyond": (
        edit("n_latents = 12", "n_latents = 2000"),
        "latents, n_latents is 2000",
    ),
    "n_trials negative": (
        edit("n_trials = 5", "n_trials = -1"),
        "n_trials is -1; allowed: above 0",
    ),
    "n_trials beyond": (edit("n_trials = 5", "n_trials = 1000"), "asked once, and there are 38"),
    "penalty": (edit("penalty = 1.0", "penalty = -1.0"), "penalty is -1.0; allowed: above 0"),
    "penalty of 0": (edit("penalty = 1.0", "penalty = 0"), "penalty is 0; allowed: above 0"),
    # prior
    "prior reversed": (edit("high = 1650.0", "high = -1.0"), "high is -1.0; allowed: above low"),
    "prior out of range": (edit("prior_mean = 330.0", "prior_mean = 9999.0"), "low to high"),
    "prior negative": (edit("low = 0.0", "low = -5.0"), "low is -5.0; allowed: 0 or more"),
    "prior NaN": (edit("prior_mean = 330.0", "prior_mean = nan"), "prior_mean is nan; .*finite"),
    "prior infinite": (edit("high = 1650.0", "high = inf"), "high is inf; .*finite"),
    "prior missing": (
        lambda f: written("my.toml", re.sub(r"\[cal[^\[]*", "", A_MODEL))(f),
        r"has no \[calibration\].*suggest-prior",
    ),
    # names
    "shadows the registry": (edit('"mine"', '"tiny"'), "key 'tiny' is a registered model"),
    "a slash in the name": (edit('"mine"', '"a/b"'), "key is 'a/b'; allowed: lower-case letters"),
    "name twice": (edit('key = "mine"', 'key = "mine"\nkey = "yours"'), "is not TOML"),
    "no name": (edit('key = "mine"\n', ""), "key is missing"),
    "empty id": (edit('"./weights"', '""'), "hf_id is ''; allowed: a text that is not empty"),
    "labels a number": (edit('"labels.csv"', "3"), "labels is 3; allowed: a path"),
    "folder a number": (edit('"./sae"', "5"), "sae.folder is 5; allowed: a path"),
    # the file itself
    "empty": (written("my.toml", ""), "key is missing"),
    "binary": (written("my.toml", b"\xff\xfe\x00"), "not text in UTF-8"),
    "missing": (removed("my.toml"), "cannot read .*my.toml .No such file"),
}
