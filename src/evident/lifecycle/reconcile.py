"""What a deployment has in its cloud, held against its journal: by the tags that everything of it carries."""

from __future__ import annotations

from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.platforms.cloud_driver import WHERE, CloudDriver
from evident.platforms.resources import Survey


def survey(target: Deployment) -> Survey | None:
    """Nothing is changed. None where there is nothing to ask a cloud for: a machine of this host, or none any more.

    Raises the errors of `evident.platforms.cloud`.
    """
    driver = target.driver()
    if not isinstance(driver, CloudDriver) or target.journal.state is State.DESTROYED:
        return None
    seen = [driver.survey(each.machine) for each in target.machines() if (each.machine / WHERE).exists()]
    if not seen:
        return None
    return Survey(
        tuple(resource for each in seen for resource in each.present),
        tuple(resource for each in seen for resource in each.missing),
        tuple(found for each in seen for found in each.unwritten),
    )
