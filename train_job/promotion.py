"""May the new version take the channel over by itself?"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from runtime.errors import BundleError, NotFoundError
from runtime.registry import Registry

if TYPE_CHECKING:
    from train_job.champion import Comparison
    from train_job.divide import Job
    from train_job.learn import Learned
    from train_job.prove import Exported


def refusals(job: "Job", learned: "Learned", exported: "Exported", comparison: "Comparison | None") -> tuple[str, ...]:
    """The reasons against it; empty where there are none."""
    reasons = comparison.reasons() if comparison else []
    chosen = learned.evaluation.chosen
    if chosen is not None and chosen["threshold"] is None:
        reasons.append(f"no threshold has a precision of {chosen['precision']:.0%} on the validation photos")
    return (*reasons, *unserved(job.registry, job.options.channel, exported.variants, exported.left_out))


def unserved(registry: Registry, channel: str, variants: Iterable[str], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """A reason for each variant that the channel's version has and the new one lacks: its users would find nothing."""
    try:
        served = registry.manifest(registry.channel(channel).model_id).variants
    except (NotFoundError, BundleError):
        return ()  # a new channel, or one that names what no one can load
    return tuple(
        f"{name} is served there, and this version lacks it: {left_out.get(name, 'not exported')}"
        for name in sorted(served.keys() - set(variants))
    )
