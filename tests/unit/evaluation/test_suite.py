import numpy as np

from vla_kit.evaluation import suite
from vla_kit.evaluation.suite import evaluate_tasks


class Still:
    def act(self, observations, *, generator):
        return [np.zeros((16, 4)) for _ in observations]


def test_tasks_with_a_shared_scene_get_a_swapped_trial(monkeypatch):
    calls = []

    def fake(kind):
        def run(*arguments, **settings):
            calls.append((kind, settings.get("instruction")))
            seeds = next(argument for argument in arguments if isinstance(argument, range))
            return [
                suite.EpisodeResult(
                    task="t", embodiment="e", seed=seed, instruction="", success=kind == "expert", steps=1
                )
                for seed in seeds
            ]

        return run

    monkeypatch.setattr(suite, "evaluate", fake("policy"))
    monkeypatch.setattr(suite, "evaluate_expert", fake("expert"))
    monkeypatch.setattr(suite, "evaluate_random", fake("random"))
    table, kept = evaluate_tasks(Still(), ["metaworld/faucet-open", "metaworld/reach"], episodes=3, baseline_episodes=2)
    first, second = table.tasks
    assert [kind for kind, _ in calls] == ["policy", "policy", "expert", "random", "policy", "expert", "random"]
    assert "left" in calls[1][1](1_000_000)  # faucet-open is told faucet-close
    assert first.swapped.episodes == 3
    assert second.swapped is None
    assert (first.expert.rate, first.random.rate, first.policy.episodes) == (1.0, 0.0, 3)
    assert len(kept) == 6
    assert set(table.seconds) == {"evaluation", "baselines"}


def test_baselines_can_be_left_out(monkeypatch):
    monkeypatch.setattr(suite, "evaluate_expert", None)
    monkeypatch.setattr(suite, "evaluate_random", None)
    monkeypatch.setattr(
        suite,
        "evaluate",
        lambda policy, make, seeds, **_: [
            suite.EpisodeResult(task="t", embodiment="e", seed=s, instruction="", success=True, steps=1) for s in seeds
        ],
    )
    table, _ = evaluate_tasks(Still(), ["metaworld/reach"], episodes=2, baseline_episodes=0)
    assert table.tasks[0].expert is None
    assert table.tasks[0].random is None
