"""Whether a classifier goes by a nuisance: changing it must turn more answers than its control, on the same pictures.

Some networks are fragile: whatever is done to a picture turns their answer. So a share of turned answers alone is no
sign of a shortcut.
"""

import math
from collections.abc import Collection, Mapping

from xaihub.auditing.changes import CHANGES, Change
from xaihub.auditing.trials import Turned

__all__ = ["beyond", "by_nuisance", "control_of", "goes_by"]

SOME, HARDLY = 0.05, 0.1  # answers that turn: no more than this is no use, less than that is none
SURE = 0.05  # how often chance alone may turn so many more than the control


def by_nuisance(turned: Mapping[str, Turned], nuisance: str) -> list[Turned]:
    """The changes that change a nuisance, the one that turned most answers first."""
    found = [one for name, one in turned.items() if nuisance in CHANGES[name].tests and one.count]
    return sorted(found, key=lambda one: -one.flips)


def control_of(
    one: Turned, turned: Mapping[str, Turned], nuisance: str, telling: Collection[str] = ()
) -> Turned | None:
    """What a change is compared with where it is asked about a nuisance; None where there is nothing.

    The same done elsewhere, where the change has such a control of its own. Else, of the harmless changes, the one that
    turned most answers: none that alters the nuisance, and none that tests anything that tells the labels, since that
    could be another shortcut.

    Args:
        telling: the nuisances that tell the labels.
    """
    if CHANGES[one.name].control:
        return turned.get(CHANGES[one.name].control)
    found = [each for name, each in turned.items() if name != one.name and _leaves(CHANGES[name], nuisance, telling)]
    return max(found, key=lambda each: each.flips, default=None)


def _leaves(entry: Change, nuisance: str, telling: Collection[str]) -> bool:
    return entry.harmless and nuisance not in (*entry.tests, *entry.alters) and not {*telling} & {*entry.tests}


def beyond(one: Turned, control: Turned) -> float:
    """How often chance alone parts the two so far, where the change turned more; 1 where it did not.

    McNemar's test (1947), exact and two-sided: of the pictures that only one of the two turned, were either as likely,
    a change would turn half.
    """
    more, fewer = len(one.places - control.places), len(control.places - one.places)
    if more <= fewer:
        return 1.0
    count = more + fewer
    return min(1.0, 2 * sum(math.comb(count, each) for each in range(more, count + 1)) / 2**count)


def goes_by(one: Turned, control: Turned | None, *, tried: int = 1) -> bool | None:
    """Whether a classifier that knows the labels goes by what a change changes; None where that is not clear.

    It does where the change turns more than one answer in twenty, significantly more than its control, and, if it puts
    something of another label in the place, most of them to that label. It hardly does where next to no answer turns,
    or no more than when the same is done elsewhere. A fragile network, whose answers turn under harmless changes as
    well, may hide what it goes by: that is not clear.

    Args:
        tried: how many changes are asked about the same nuisance; chance may give any of them so much.
    """
    entry = CHANGES[one.name]
    low, high = one.interval
    towards = not entry.exchanges or 2 * one.to_donor > one.flips
    if control is not None and low > SOME and towards and tried * beyond(one, control) <= SURE:
        return True
    elsewhere = bool(entry.control) and control is not None and one.rate <= control.rate
    return False if high < HARDLY or elsewhere else None
