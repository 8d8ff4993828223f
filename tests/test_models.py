"""Models: the registry against the paper, files of users, and the prior that is suggested."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from esr import judge, models
from esr.errors import UserError
from esr.models import Calibration, commands, from_toml
from esr.models.identity import model_identity
from esr.pipeline.experiment import main
from esr.pipeline.settings import resolve
from esr.runs.commands import parse
from esr.runs.paths import ORGANISM, REPOSITORY
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT, stages

EXAMPLE = REPOSITORY / "examples" / "my_model.toml"
NEEDS_ORGANISM = pytest.mark.skipif(
    not (ORGANISM / "tiny" / "model.safetensors").is_file(), reason="the organism is not built"
)

A_MODEL = """\
key = "mine"
hf_id = "some-lab/some-model-7b-it"
steering_layer = 12
feature_layer = 13
d_model = 4096
d_sae = 32768

[sae]
release = "some-release"
sae_id = "layer_12"

[calibration]
rounds = 8
prompts_per_round = 2
prior_mean = 20.0
prior_sd = 10.0
low = 0.0
high = 90.0

[profiles.paper]
repetition_penalty = 1.05

[shape]
layers = 28
heads = 32
kv_heads = 8
head_dim = 128
ffn = 14336
vocabulary = 128256
"""


def write(folder: Path, text: str = A_MODEL, old: str = "", new: str = "") -> Path:
    path = folder / "my_model.toml"
    assert old in text
    path.write_text(text.replace(old, new) if old else text)
    return path


class TestRegistry:
    def test_calibration_of_a_1_4(self) -> None:
        table = {
            "70b": Calibration(10, 5, 7, 5, 0, 100, 256),
            "8b": Calibration(10, 1, 10, 10, 0, 50, 256),
            "gemma-2b": Calibration(10, 1, 150, 75, 0, 300, 256),
            "gemma-9b": Calibration(10, 1, 280, 280, 0, 560, 256),
            "gemma-27b": Calibration(10, 1, 1500, 1500, 0, 5000, 256),
        }
        in_flight = {"70b": 10, "8b": 50, "gemma-2b": 20, "gemma-9b": 20, "gemma-27b": 20}
        for key, expected in table.items():
            assert models.get(key).calibration == expected
            assert models.get(key).in_flight == in_flight[key]

    def test_dictionaries_and_labels_of_section_2(self) -> None:
        table = {
            "70b": (
                "goodfire-llama-3.3-70b-instruct",
                "layer_50",
                "llama3.3-70b-it/50-resid-post-gf",
            ),
            "8b": ("goodfire-llama-3.1-8b-instruct", "layer_19", "llama3.1-8b-it/19-resid-post-gf"),
            "gemma-2b": (
                "gemma-scope-2b-pt-res-canonical",
                "layer_16/width_16k/canonical",
                "gemma-2-2b/16-gemmascope-res-16k",
            ),
            "gemma-9b": (
                "gemma-scope-9b-pt-res-canonical",
                "layer_26/width_16k/canonical",
                "gemma-2-9b/26-gemmascope-res-16k",
            ),
            "gemma-27b": (
                "gemma-scope-27b-pt-res-canonical",
                "layer_22/width_131k/canonical",
                "gemma-2-27b/22-gemmascope-res-131k",
            ),
        }
        for key, (release, sae_id, labels) in table.items():
            spec = models.get(key)
            assert (spec.sae.release, spec.sae.sae_id, spec.neuronpedia) == (
                release,
                sae_id,
                labels,
            )
            assert (spec.max_tokens, spec.context, spec.dtype) == (512, 4096, "bfloat16")
            assert spec.judge == "haiku"

    def test_profiles(self) -> None:
        penalties = {"70b": 1.2, "8b": 1.15, "gemma-2b": 1.1, "gemma-9b": 1.1, "gemma-27b": 1.1}
        for key, penalty in penalties.items():
            paper, release = models.get(key).profile("paper"), models.get(key).profile("release")
            assert (paper.repetition_penalty, paper.chat_variant) == (1.1, "template")
            assert release.repetition_penalty == penalty
            doubled = "llama-double-header" if key in ("70b", "8b") else "template"
            assert release.chat_variant == doubled
        assert resolve(Config(model="8b")).steering_layer == 19
        assert resolve(Config(model="8b", profile="release")).steering_layer == 12

    def test_saelens_knows_the_dictionaries(self) -> None:
        """Read from its list, because importing SAELens takes many seconds."""
        import importlib.util

        import yaml

        found = importlib.util.find_spec("sae_lens")
        assert found is not None
        assert found.origin is not None
        text = (Path(found.origin).parent / "pretrained_saes.yaml").read_text()
        releases = yaml.load(text, Loader=yaml.CSafeLoader)
        for key in ("70b", "8b", "gemma-2b", "gemma-9b", "gemma-27b"):
            source = models.get(key).sae
            assert source.sae_id in [sae["id"] for sae in releases[source.release]["saes"]]

    def test_vllm_knows_the_quantisation(self) -> None:
        """vLLM refuses the name "fp8" for weights that are not stored so."""
        from vllm.config.quantization import ONLINE_QUANT_SHORTHAND_NAMES

        used = {spec.quantization for spec in models.REGISTRY.values()} - {""}
        assert used == {"fp8_per_tensor"}
        assert used <= set(ONLINE_QUANT_SHORTHAND_NAMES)

    def test_plans_have_the_paper_s_counts(self) -> None:
        """About 1,000 latents, 10 rounds, 5 trials each (A.1.2, A.1.4)."""
        for key in ("70b", "8b", "gemma-2b", "gemma-9b", "gemma-27b"):
            config = Config(model=key)
            found = {stage.name: stage for stage in stages(config, models.get(key))}
            assert found["choosing latents"].reads == 38
            per_round = 5 if key == "70b" else 1
            assert found["calibration"].responses == 1000 * 10 * per_round
            assert found["calibration"].max_tokens == 256
            assert (found["trials"].responses, found["trials"].max_tokens) == (5000, 512)


class TestFiles:
    def test_every_field_arrives(self, tmp_path: Path) -> None:
        spec = from_toml.load(write(tmp_path))
        assert (spec.key, spec.title, spec.hf_id) == ("mine", "mine", "some-lab/some-model-7b-it")
        assert (spec.steering_layer, spec.feature_layer) == (12, 13)
        assert spec.calibration == Calibration(8, 2, 20.0, 10.0, 0.0, 90.0, 256)
        assert spec.profile("paper").repetition_penalty == 1.05
        assert spec.sae.describe() == "some-release/layer_12"
        assert 7 < spec.parameters < 8
        assert spec.judge == "haiku"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (
                "steering_layer = 12",
                "steering_layer = 28",
                r"line 3: steering_layer is 28; allowed: 0 to 27",
            ),
            (
                "steering_layer = 12",
                'steering_layer = "x"',
                r"line 3: steering_layer is 'x'; allowed: valid integer",
            ),
            (
                "steering_layer = 12",
                "steering_laier = 12",
                r"line 3: steering_laier is 'unknown field'; allowed: key, title",
            ),
            ("steering_layer = 12\n", "", r"my_model.toml: steering_layer is missing"),
            (
                "prior_sd = 10.0",
                "prior_sd = 0.0",
                r"line 16: calibration.prior_sd is 0.0; allowed: above 0",
            ),
            (
                "prior_sd = 10.0",
                "prior_ds = 10.0",
                r"line 16: calibration.prior_ds is 'unknown field'; allowed: rounds",
            ),
            ("high = 90.0", "high = 0.0", r"line 18: calibration.high is 0.0; allowed: above low"),
            ('key = "mine"', 'key = "My Model"', r"line 1: key is 'My Model'; allowed: lower-case"),
            ('key = "mine"', "key = mine", r"is not TOML: .*line 1"),
            ('sae_id = "layer_12"\n', "", r"line 8: sae is .*allowed: either folder, or release"),
            ("rounds = 8", "rounds = 0", r"line 13: calibration.rounds is 0; allowed: above 0"),
            (
                '[sae]\nrelease = "some-release"\nsae_id = "layer_12"\n',
                "sae = 3\n",
                r"line 8: sae is 3; allowed: a table \[sae\]",
            ),
            (
                "[profiles.paper]",
                "[profiles.other]",
                r"profiles is 'other'; allowed: one named paper",
            ),
            (
                "repetition_penalty",
                "penalty",
                r"line 21: profiles.paper.penalty is 'unknown field'",
            ),
        ],
    )
    def test_faults_name_line_and_field(
        self, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        with pytest.raises(UserError, match=message) as caught:
            from_toml.load(write(tmp_path, A_MODEL, old, new))
        assert "\n" not in str(caught.value)
        assert "next: " in str(caught.value)

    def test_without_a_prior_the_next_step_is_to_measure_one(self, tmp_path: Path) -> None:
        text = re.sub(r"\[calibration\][^\[]*", "", A_MODEL)
        path = write(tmp_path, text)
        with pytest.raises(UserError, match=r"no \[calibration\].*esr.models suggest-prior"):
            from_toml.load(path)
        assert from_toml.load(path, prior_needed=False).key == "mine"

    def test_a_registered_key_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="key '70b' is a registered model"):
            models.get(str(write(tmp_path, A_MODEL, '"mine"', '"70b"')))

    def test_paths_are_relative_to_the_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "sae"
        folder.mkdir()
        (folder / "cfg.json").write_text(json.dumps({"d_in": 4096, "d_sae": 999}))
        text = A_MODEL.replace('release = "some-release"\nsae_id = "layer_12"', 'folder = "sae"')
        text = text.replace("d_model = 4096\nd_sae = 32768\n", "")
        spec = from_toml.load(write(tmp_path, text, "some-lab/some-model-7b-it", "./weights"))
        assert spec.hf_id == str(tmp_path / "weights")
        assert spec.sae.folder == folder
        assert (spec.d_model, spec.d_sae) == (4096, 999)

    def test_the_file_names_the_model_everywhere(self, tmp_path: Path) -> None:
        path = write(tmp_path)
        config = parse(Config, "x", ["--model-file", str(path), "--seed", "1"])
        assert config.model == "mine"
        assert resolve(config).hf_id == "some-lab/some-model-7b-it"
        # What names the run is the content of the file, not where it lies.
        assert str(tmp_path) not in json.dumps([config.identity(), model_identity(resolve(config))])

    def test_dry_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(EXPERIMENT, ["--model-file", str(write(tmp_path)), "--dry-run"]) == 2
        out = capsys.readouterr().out
        assert "experiment_01_esr on mine (some-lab/some-model-7b-it)" in out
        assert "repetition penalty 1.05" in out
        assert "SAE rows" in out
        assert main(EXPERIMENT, ["--model-file", str(tmp_path / "no.toml"), "--dry-run"]) == 2
        assert capsys.readouterr().err.startswith("error: cannot read ")


@NEEDS_ORGANISM
class TestOnTheOrganism:
    """A user's file with real weights, a real dictionary and real generations."""

    def file(self, folder: Path) -> Path:
        text = EXAMPLE.read_text().replace('"../', f'"{REPOSITORY}/')
        for name, value in (("rounds", 3), ("max_tokens", 24)):
            text = re.sub(rf"^{name} = \d+", f"{name} = {value}", text, flags=re.MULTILINE)
        return write(folder, text)

    def test_end_to_end(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        torch.set_num_threads(1)
        arguments = ["--model-file", str(self.file(tmp_path)), "--engine", "transformers"]
        arguments += ["--n-latents", "2", "--n-trials", "2", "--output", str(tmp_path / "results")]
        assert main(EXPERIMENT, arguments) == 0
        assert "ESR on My organism" in capsys.readouterr().out
        (found,) = (tmp_path / "results").glob("experiment_01_esr/my-organism/*/results.json")
        data = json.loads(found.read_text())
        assert data["experiment_config"]["model"] == "my-organism"
        assert len(data["results_by_feature"]) == 2
        for entry in data["results_by_feature"]:
            assert entry["calibration"]["rounds"] + entry["calibration"]["skipped"] == 3
        run = json.loads((found.parent / "run.json").read_text())
        assert run["status"] == "complete"
        assert run["organism"] is True

    def test_a_suggested_prior_is_a_table_of_the_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from esr.models.prior import measure
        from esr.models.weights import load_weights
        from esr.steering import sae

        path = self.file(tmp_path)
        assert commands.main(judge.resolve, ["suggest-prior", str(path)]) == 0
        printed = capsys.readouterr().out
        text = re.sub(r"\[calibration\][^\[]*", printed + "\n", path.read_text())
        spec = from_toml.load(write(tmp_path, text))

        ids = tuple(range(5, 40))
        found = measure(spec, sae.load(spec.sae), [ids])
        with torch.no_grad():
            output = load_weights(spec, torch.device("cpu"))(
                input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False
            )
        norms = output.hidden_states[spec.steering_layer + 1][0].norm(dim=-1)
        assert found.n_tokens == len(ids) - 1
        assert found.residual_norm == pytest.approx(float(norms[1:].median()), rel=1e-5)
        assert asdict(spec.calibration)["low"] == 0.0
        assert spec.calibration.high == pytest.approx(5 * spec.calibration.prior_mean, rel=0.01)
