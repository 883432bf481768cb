from sparseconv.bench.cases import CASES
from sparseconv.bench.plan import MOST_NUMBERS, Step, steps_of, sweep


def test_scenes_then_cases_then_widths_and_own_scenes_last():
    cases = [CASES["overhead"], CASES["conv"], CASES["unet"], CASES["threads"]]
    found = list(steps_of(cases, ["a", "b"], [4, 8], 1))
    assert [(s.case.name, s.scene, s.channels, s.threads) for s in found] == [
        ("conv", "a", 4, 1),
        ("conv", "a", 8, 1),
        ("unet", "a", None, 1),
        ("threads", "a", 4, 2),
        ("threads", "a", 8, 2),
        ("conv", "b", 4, 1),
        ("conv", "b", 8, 1),
        ("unet", "b", None, 1),
        ("threads", "b", 4, 2),
        ("threads", "b", 8, 2),
        ("overhead", "few", None, 1),
    ]
    assert found[0].title == "a: 3³ submanifold forward, C = 4"
    assert found[2].title == "a: U-Net forward, cold"


def test_the_sweep_keeps_within_memory():
    steps = list(sweep(CASES, 2))
    assert len(set(steps)) == len(steps)
    assert {step.threads for step in steps} == {2}
    assert {step.channels for step in steps} == {4, 16, 64, 256}
    assert Step(CASES["conv"], "street-2M", 64, 2) in steps
    assert Step(CASES["conv"], "street-2M", 256, 2) not in steps
    assert Step(CASES["gradient"], "room-500k", 256, 2) in steps
    assert MOST_NUMBERS >= 2_000_000 * 64
