"""Pairing, both ways to choose detectors, and the null that says what chance gives."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare, mannwhitneyu

from esr.analysis import detectors
from esr.analysis.detectors import Pairs
from esr.analysis.relabelling import matchings
from esr.errors import UserError
from esr.pipeline.detector_files import load
from esr.runs.paths import DATA

RNG = np.random.default_rng


def made_up(seed: int = 0, responses: int = 12, mismatched: int = 3, d_sae: int = 40) -> Pairs:
    """Noise with many exact zeros, as activations have."""
    rng = np.random.default_rng(seed)
    size = responses * (1 + mismatched)
    maxima = np.maximum(0.0, rng.normal(0.2, 1.0, (size, d_sae))).astype(np.float32)
    matched = np.tile(np.arange(1 + mismatched) == 0, responses)
    own = np.repeat(np.arange(responses), 1 + mismatched)
    # Rotations: response r with prompts r, r + 1, ...
    prompts = (own + np.tile(np.arange(1 + mismatched), responses)) % responses
    return Pairs(maxima, matched, own, prompts)


TWO = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
"""Responses and prompts of two responses with two pairs each."""


class TestDerangements:
    @pytest.mark.parametrize("n", [2, 3, 8, 38])
    def test_no_point_stays_and_no_pair_comes_twice(self, n: int) -> None:
        for seed in range(30):
            count = min(n - 1, 5)
            made = detectors.derangements(n, count, np.random.default_rng(seed))
            assert len(made) == count
            for image in made:
                assert sorted(image) == list(range(n))
                assert not (image == np.arange(n)).any()
            pairs = {(i, int(image[i])) for image in made for i in range(n)}
            assert len(pairs) == count * n

    def test_every_pair_is_equally_likely(self) -> None:
        n, draws = 5, 4000
        counts = np.zeros((n, n))
        for seed in range(draws):
            (image,) = detectors.derangements(n, 1, np.random.default_rng(seed))
            counts[np.arange(n), image] += 1
        off_diagonal = counts[~np.eye(n, dtype=bool)]
        assert (np.diag(counts) == 0).all()
        assert np.abs(off_diagonal / draws - 1 / (n - 1)).max() < 0.03

    def test_the_seed_decides(self) -> None:
        made = [detectors.derangements(38, 3, np.random.default_rng(s)) for s in (1, 1, 2)]
        assert np.array_equal(made[0], made[1])
        assert not np.array_equal(made[0], made[2])

    @pytest.mark.parametrize(("n", "count"), [(1, 1), (4, 4), (4, 0)])
    def test_more_than_there_are(self, n: int, count: int) -> None:
        with pytest.raises(ValueError, match="derangements"):
            detectors.derangements(n, count, np.random.default_rng(0))

    def test_pairing_meets_every_response_with_its_own_prompt_and_others(self) -> None:
        rngs = [np.random.default_rng(number) for number in range(2)]
        pairs = detectors.pairing(8, 7, rngs)
        assert len(set(pairs)) == len(pairs) == 2 * 64
        assert all((response // 2 == prompt) == matched for response, prompt, matched in pairs)
        assert [matched for _, _, matched in pairs] == 16 * [True, *7 * [False]]


class TestStatistics:
    def test_auc_is_that_of_mann_whitney(self) -> None:
        pairs = made_up()
        found = detectors.statistics(pairs)
        own, other = pairs.maxima[pairs.matched], pairs.maxima[~pairs.matched]
        expected = mannwhitneyu(other, own, axis=0).statistic / (len(own) * len(other))
        np.testing.assert_allclose(found.auc, expected, atol=1e-12)

    def test_shares_and_means(self) -> None:
        maxima = np.array([[0.0, 2.0], [1e-9, 0.0], [1e-8, 4.0], [3.0, 0.0]], dtype=np.float32)
        pairs = Pairs(maxima, np.array([True, False, True, False]), *TWO)
        found = detectors.statistics(pairs)
        np.testing.assert_allclose(found.matched_share, [0.5, 1.0])
        np.testing.assert_allclose(found.mismatched_share, [0.5, 0.0])
        np.testing.assert_allclose(found.mismatched_mean, [1.5, 0.0])
        assert found.of(1)["normal_mean_activation"] == 3.0

    def test_strict_asks_for_silence_and_share_and_ranks(self) -> None:
        pairs = made_up(responses=10, mismatched=1, d_sae=6)
        maxima = np.zeros_like(pairs.maxima)
        off = np.flatnonzero(~pairs.matched)
        maxima[off[:8], 0] = 1.0  # 80 %: just enough
        maxima[off[:7], 1] = 9.0  # 70 %
        maxima[off, 2] = 0.5  # all
        maxima[off, 3] = 0.7  # all, stronger
        maxima[:, 4] = 1.0  # not silent on matched pairs
        maxima[off, 5] = 1.0
        maxima[np.flatnonzero(pairs.matched)[0], 5] = 1e-7  # on one matched pair
        found = detectors.statistics(replace(pairs, maxima=maxima))
        assert detectors.strict(found) == [3, 2, 0]
        assert detectors.strict(found, 0.7) == [3, 2, 0, 1]
        assert detectors.separable(found, 3) == [5, 3, 2], "AUC 1, the stronger first"
        assert 4 not in detectors.separable(found, 6), "a latent that tells nothing"

    def test_both_kinds_of_pairs_are_needed(self) -> None:
        with pytest.raises(ValueError, match="matched and mismatched"):
            Pairs(np.zeros((2, 1), np.float32), np.array([True, True]), *(np.array([0, 1]),) * 2)


class TestNull:
    def test_it_has_the_law_of_pure_noise(self) -> None:
        """On noise the largest AUC must look like a draw from the null: p is uniform."""
        p_values = []
        for seed in range(60):
            pairs = made_up(seed)
            null = detectors.separability_null(pairs, np.random.default_rng(seed), 99)
            observed = detectors.statistics(pairs).auc.max()
            p_values.append((1 + (null >= observed).sum()) / 100)
        assert 0.35 < np.mean(p_values) < 0.65
        assert np.mean(np.array(p_values) <= 0.1) < 0.25

    def test_relabellings_are_all_matchings_equally_often(self) -> None:
        """Against a list of them all, on the pairs of six responses with three prompts each."""
        pairs = made_up(responses=6, mismatched=2)
        edges = set(zip(pairs.response.tolist(), pairs.prompt.tolist(), strict=True))
        every = {
            image
            for image in permutations(range(6))
            if all((response, prompt) in edges for response, prompt in enumerate(image))
        }
        given = (pairs.response.tolist(), pairs.prompt.tolist(), pairs.matched.tolist())
        drawn = matchings(*given, 20 * 200, np.random.default_rng(0))
        assert (drawn.sum(axis=1) == 6).all()
        counts = Counter(tuple(pairs.prompt[row].tolist()) for row in drawn)
        assert set(counts) == every
        # Neighbouring draws are alike a little: every fifth is compared with even odds.
        some = Counter(tuple(pairs.prompt[row].tolist()) for row in drawn[::5])
        assert chisquare([some[image] for image in sorted(every)]).pvalue > 0.001

    def test_a_response_that_is_matched_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one matched pair"):
            matchings([0, 0, 1, 1], [0, 1, 1, 0], [True, True, False, False], 1, RNG(0))
        with pytest.raises(ValueError, match="no prompt is matched twice"):
            matchings([0, 0, 1, 1], [0, 1, 1, 0], [True, False, False, True], 1, RNG(0))

    def test_it_keeps_its_level_where_latents_follow_the_prompt(self) -> None:
        """Nothing tells matched from mismatched; a null within responses alone finds far less."""
        exceeded = {"design": 0, "within responses": 0}
        for seed in range(100):
            rng = np.random.default_rng(seed)
            pairs = made_up(seed, responses=20, mismatched=4, d_sae=30)
            follows = rng.normal(0, 3.0, (20, 30))[pairs.prompt]
            noisy = replace(pairs, maxima=(follows + rng.normal(0, 1, follows.shape)).astype("f4"))
            observed = detectors.statistics(noisy).auc.max()
            null = detectors.separability_null(noisy, rng, 60)
            exceeded["design"] += observed > np.quantile(null, 0.9)
            loose = np.zeros((60, len(pairs.matched)), dtype=bool)
            for row in loose:
                row[5 * np.arange(20) + rng.integers(0, 5, 20)] = True
            ranks = detectors._rank(noisy.maxima)
            null = detectors._auc(ranks, loose).max(axis=1)
            exceeded["within responses"] += observed > np.quantile(null, 0.9)
        assert 3 <= exceeded["design"] <= 20
        assert exceeded["within responses"] <= 1

    def test_a_planted_latent_stands_out(self) -> None:
        pairs = made_up()
        maxima = pairs.maxima.copy()
        maxima[~pairs.matched, 7] += 3.0
        planted = replace(pairs, maxima=maxima)
        null = detectors.separability_null(planted, np.random.default_rng(0), 200)
        found = detectors.statistics(planted)
        assert detectors.separable(found, 1) == [7]
        assert found.auc[7] > np.quantile(null, 0.95)

    def test_a_loud_response_is_no_evidence(self) -> None:
        """What a response activates whatever it is paired with counts for neither side."""
        pairs = made_up()
        maxima = pairs.maxima.copy()
        maxima[pairs.response == 3] += 10.0
        loud = replace(pairs, maxima=maxima)
        null = detectors.separability_null(loud, np.random.default_rng(0), 200)
        assert detectors.statistics(loud).auc.max() <= np.quantile(null, 0.999) + 0.1


class TestFiles:
    def test_the_paper_s_set(self) -> None:
        found = load(DATA / "off_topic_detectors_paper.json")
        assert len(found.latents) == 26
        assert found.model_name == "meta-llama/Llama-3.3-70B-Instruct"
        signs = found.by_sign()
        assert (len(signs["positive"]), len(signs["negative"])) == (18, 8)
        assert signs["negative"][-1] == 41038
        assert found.stats[37536]["off_topic_mean"] == 0.055

    def test_a_file_of_the_authors_without_extras(self, tmp_path: Path) -> None:
        path = tmp_path / "theirs.json"
        path.write_text(json.dumps({"off_topic_detectors": [5, 3], "note": "theirs"}))
        found = load(path)
        assert found.latents == (5, 3)
        assert found.method == "as listed"
        with pytest.raises(UserError, match="no effect size"):
            found.by_sign()

    def test_separability_stands_in_by_name_only(self, tmp_path: Path) -> None:
        path = tmp_path / "ours.json"
        data = {"off_topic_detectors": [], "separability_detectors": [9, 4], "method": "strict"}
        path.write_text(json.dumps(data))
        assert load(path).method == "separability"
        assert load(path).latents == (9, 4)
        with pytest.raises(UserError, match="no detectors"):
            load(path, "strict")
        path.write_text(json.dumps({**data, "off_topic_detectors": [1]}))
        assert (load(path).latents, load(path).method) == ((1,), "strict")
        assert load(path, "separability").latents == (9, 4)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"off_topic_detectors": ["x"]}'])
    def test_other_files_are_refused_in_one_line(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(UserError, match="is not a detectors file"):
            load(path)
        with pytest.raises(UserError, match="cannot read"):
            load(tmp_path / "missing.json")
