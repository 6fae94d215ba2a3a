import pytest

from skae._training.knee import Knee


def steps_until_the_end(loss_at, tol=0.1, start=1.0):
    """Steps after which a training with given validation losses ends."""
    knee = Knee(start, 1.0, tol)
    for step in range(1, 20_001):
        if knee.is_due(step):
            knee.compare(step, loss_at(step))
            if knee.is_reached:
                return step
    return None


def test_it_waits_for_what_is_still_gained():
    fast = steps_until_the_end(lambda step: 0.2 + 0.8 * 0.5 ** (step / 50))
    slow = steps_until_the_end(lambda step: 0.2 + 0.8 * 0.5 ** (step / 500))
    assert 400 <= fast < 600
    assert 5 * 500 < slow < 15 * 500


def test_a_smaller_tolerance_trains_longer():
    def loss_at(step):
        return 0.2 + 0.8 / (1 + step / 100)

    steps = [steps_until_the_end(loss_at, tol) for tol in (0.3, 0.1, 0.03)]
    assert steps == sorted(steps)
    assert steps[-1] > 2 * steps[0]


def test_it_does_not_give_up_before_a_fair_start():
    assert steps_until_the_end(lambda step: 0.9999) >= 1200


def test_losses_that_have_turned_end_training():
    assert steps_until_the_end(lambda step: 1.0 + step / 1000) < 600
    assert steps_until_the_end(lambda step: 0.5 + abs(step - 300) / 1000) < 600


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e9])
def test_a_loss_beyond_reason_has_exploded(loss):
    knee = Knee(1.0, 1.0, 0.1)
    knee.compare(100, 0.5)
    assert not knee.exploded
    knee.compare(119, loss)
    assert knee.exploded
    assert (knee.best, knee.best_step) == (0.5, 100)


def test_a_restored_one_goes_on_as_if_nothing_had_been():
    losses = {100: 0.5, 200: 0.4, 400: 0.39, 476: 0.389}
    whole = Knee(1.0, 1.0, 0.1)
    for step, loss in losses.items():
        whole.compare(step, loss)
    first = Knee(1.0, 1.0, 0.1)
    first.compare(100, 0.5)
    second = Knee(0.0, 0.0, 0.0)
    second.restore(first.state())
    for step in (200, 400, 476):
        second.compare(step, losses[step])
    assert second.state() == whole.state()
