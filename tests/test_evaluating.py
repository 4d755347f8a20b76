"""Evaluation mode for the length of a pass, also when passes on several threads overlap."""

import threading

import pytest
from torch import nn
from toy_networks import SmallNet

from xaihub.hooks import evaluating


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_of_two_overlapping_passes_the_first_to_end_does_not_put_the_other_into_training_mode(first_to_leave):
    module, lock = SmallNet().train(), threading.RLock()
    module.head.eval()
    before = modes(module)
    inside, leave, found = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)], {}

    def run(n):
        with evaluating(module, lock):
            inside[n].set()
            leave[n].wait(10)
            found[n] = modes(module)

    threads = [threading.Thread(target=run, args=[n]) for n in range(2)]
    for n in range(2):
        threads[n].start()
        assert inside[n].wait(10), "the second pass does not wait for the first"
    for n in (first_to_leave, 1 - first_to_leave):
        leave[n].set()
        threads[n].join(10)
    assert not any(found[0] + found[1])
    assert modes(module) == before


def test_the_mode_is_restored_after_nested_passes_and_exceptions():
    module, lock = SmallNet().train(), threading.RLock()

    def broken():
        with evaluating(module, lock):
            with evaluating(module, lock):
                assert not any(modes(module))
            assert not any(modes(module)), "the outer one is still open"
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert all(modes(module))
    with evaluating(module.eval(), lock):
        pass
    assert not any(modes(module))
