"""Put another machine in the place of the one that runs, and lose that only once the new one has proved itself.

    succession.update(target, order, window=timedelta(hours=1), prove=functools.partial(proving.prove, cache=cache))

1. the journal says UPDATING, and which number the new machine has
2. it is made beside the old one, which answers on; where the platform has no room for both, the old one is halted first
3. it boots, and is attested by its own policy and reference values alone
4. the journal says LAUNCHED: from that line on it is the one in charge, and the window of the old one begins
5. the old one is removed when its window is over: at once where there is none, else by the next command after it (`retire`)

Where anything of 2 and 3 fails, the new machine is removed, the old one goes on, the journal says KEPT, and the error says so
(``update.kept``). Killed in between, `update` again carries on, and so does `up` by the same document.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from evident import codec
from evident.appraisal.accepted import check_accepted
from evident.appraisal.policy import Policy
from evident.errors import EvidentError, Finding, UsageError
from evident.lifecycle import bring_up, deployment, enrolment, keyserver, quarantine, retire, specification
from evident.lifecycle.attest import Answer
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.specification import Specification
from evident.platforms.order import Order

_CROWDED = ("cloud.quota", "cloud.capacity")


def successor(target: Deployment) -> Deployment:
    """`target` seen through the machine that an update makes, or carries on with."""
    known = target.generations
    return target.at(known.coming.number if known.coming else known.charge + 1)


def update(
    target: Deployment,
    order: Order,
    *,
    window: timedelta,
    policy: Policy | None = None,
    release: Release | None = None,
    document: Specification | None = None,
    prove: Callable[[Deployment], Answer] | None = None,
) -> None:
    """Put a machine by `order` in the place of the one in charge. `prove` asks it who it is; None: that it boots is enough.

    For `window` after that the old machine and its reference values are accepted beside the new. One in quarantine gets no window.
    Raises what kept the new machine from taking over, with a last finding ``update.kept``: the old one goes on; and what
    `enrolment.check_update` does.
    """
    before, coming = target.at(target.generations.charge), successor(target)
    if release is not None:
        enrolment.check_update(coming, by_svid=release.disk.by_svid is not None)
    beside = _begin(before, coming, order, window, release, document)
    try:
        _make(coming, order, policy, release, document)
        answer = _proved(coming, prove) if prove else None
    except EvidentError as error:
        raise _given_up(before, coming, error, release, halted=not beside) from error
    with target.exclusive():
        _check_current(coming)
        open_for = window if beside and quarantine.in_force(target) is None else timedelta(0)
        until = codec.format_time(target.surroundings.clock() + open_for)
        target.record(State.LAUNCHED, generation=str(coming.number), until=until)
        if answer is not None:
            target.record(State.ATTESTED, **answer.said)
    retire.finish(target)


def abandon(target: Deployment) -> None:
    """Remove what an update that did not end was making; the machine before it goes on."""
    coming = successor(target)
    with target.exclusive():
        _check_current(coming)
        retire.remove(coming)
        target.record(State.KEPT, generation=str(coming.number), code="update.abandoned")
        keyserver.end(target)  # it served by the policy of the machine that is no more; whoever carries on starts it again


def _begin(
    before: Deployment, coming: Deployment, order: Order, window: timedelta, release: Release | None, document: Specification | None
) -> bool:
    """Whether both machines run beside each other from here on."""
    driver = before.driver()
    with before.exclusive():
        before.record(State.UPDATING, generation=str(coming.number), window=str(int(window.total_seconds())))
        if document is not None:
            specification.keep(coming, document)
        beside = driver.room(before.machine, order)
        if not beside:
            before.surroundings.progress("no room for two machines here: halting the one that runs until the other has proved itself")
            driver.halt(before.machine)
        if release is not None:
            keyserver.end(before)  # until the new machine's key is registered nobody asks in vain
    return beside


def _make(coming: Deployment, order: Order, policy: Policy | None, release: Release | None, document: Specification | None) -> None:
    driver = coming.driver()
    with coming.exclusive():
        _check_current(coming)
        deployment.write_expectation(coming, driver.launch(coming.machine, order), policy)
        bring_up.settled(coming, order, release, document)
    if release is not None:
        bring_up.serve(coming, release.cache, release.listen)
    driver.settle(coming.machine)


def _proved(coming: Deployment, prove: Callable[[Deployment], Answer]) -> Answer:
    """Its answer, which was accepted; else raised as the error that refuses it."""
    answer = prove(coming)
    coming.surroundings.progress(f"{coming.name}: the new machine's answer: {answer.outcome.decision}; audit bundle: {answer.bundle_path}")
    if isinstance(answer.outcome, EvidentError):
        raise answer.outcome
    check_accepted(answer.outcome)
    return answer


def _current(coming: Deployment) -> bool:
    """Whether this is what the journal says is being made: another command may have ended that meanwhile."""
    known = coming.generations.coming
    return known is not None and known.number == coming.number


def _check_current(coming: Deployment) -> None:
    if not _current(coming):
        raise UsageError.of(
            "update.ended",
            expected="an update that goes on",
            found=f"one that another command has ended: {coming.name!r} is {coming.journal.state}",
            remedy=f"Look at `evident status {coming.name}`, then repeat the command.",
        )


def _given_up(before: Deployment, coming: Deployment, error: EvidentError, release: Release | None, *, halted: bool) -> EvidentError:
    """`error`, with what became of both machines: the new one is removed, the old one goes on."""
    with before.exclusive():
        if not _current(coming):
            return error
        try:
            retire.remove(coming)
        except EvidentError as left:
            return error.followed_by(*left.findings, _unfinished(before))
        before.record(State.KEPT, generation=str(coming.number), code=error.code)
        if halted:
            before.driver().start(before.machine)
    if release is not None:
        keyserver.end(before)
        if keyserver.registered(before):
            bring_up.serve(before, release.cache, bring_up.listening(specification.kept(before), before.platform))
    return error.followed_by(_kept(before, error))


def _kept(before: Deployment, error: EvidentError) -> Finding:
    room = (
        "An update needs room for two machines at once, the old one and the new: ask for more, or end the old one first "
        f"(`evident down {before.name}`, then `evident up` with the document), which is out of service meanwhile."
    )
    again = "Correct what the findings name, then repeat `evident update`."
    return Finding(
        "update.kept",
        "input",
        "another machine in the place of the one that runs",
        "that the old one goes on; what was made of the new one is removed",
        room if error.code in _CROWDED else again,
    )


def _unfinished(before: Deployment) -> Finding:
    return Finding(
        "update.unfinished",
        "input",
        "what was made of the new machine removed again",
        "some of it still there; the old machine goes on",
        f"`evident status {before.name}` shows it. Repeat `evident update`, or `evident up` with the old document, which removes it.",
    )
