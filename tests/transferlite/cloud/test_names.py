"""Names of a stack's resources are legal, stable, and different for every stack, account and region."""

import re
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transferlite.cloud.buckets import stack_prefix

REGIONS = ("eu-central-1", "us-east-1", "ap-southeast-4", "us-gov-west-1", "cn-northwest-1", "eusc-de-east-1")
SUFFIXES = ("-data", "-models", "-predictions")
stacks = st.one_of(
    st.builds(str.__add__, st.sampled_from(string.ascii_letters), st.text(string.ascii_letters + "-09", max_size=127)),
    st.sampled_from(["xn--photos", "sthree-a", "amzn-s3-demo-bucket", "P", "a" * 128, "Photos-" * 18]),
)
on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
places = st.tuples(stacks, st.text(string.digits, min_size=12, max_size=12), st.sampled_from(REGIONS))


@on_a_busy_machine
@given(places)
def test_names_are_legal_for_buckets_state_machines_and_schedules(place: tuple[str, str, str]) -> None:
    prefix = stack_prefix(*place)
    for suffix in SUFFIXES:
        name = prefix + suffix
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name)
        assert not name.startswith(("xn--", "sthree-", "amzn-s3-demo-"))
        assert "--" not in name
    assert len(f"{prefix}-training") <= 64  # EventBridge Scheduler's limit; Step Functions allows 80
    assert place[1] in prefix
    assert place[2] in prefix


@on_a_busy_machine
@given(places, places)
def test_names_differ_if_stack_account_or_region_differ(one: tuple[str, str, str], two: tuple[str, str, str]) -> None:
    assert (stack_prefix(*one) == stack_prefix(*two)) == (one == two)


@on_a_busy_machine
@given(places)
def test_stacks_whose_names_differ_in_case_or_in_their_end_have_other_names(place: tuple[str, str, str]) -> None:
    stack, account, region = place
    others = {stack.swapcase(), stack + "x", stack[:-1]} - {stack}
    assert stack_prefix(*place) not in {stack_prefix(other, account, region) for other in others}


def test_names_stay_the_same_in_later_releases() -> None:
    """A redeployed stack finds the buckets that it left by their names."""
    assert stack_prefix("photos", "111122223333", "eu-central-1") == "photos-111122223333-eu-central-1-db8a1c23"
    of_team = stack_prefix("Photos-Of-The-Team", "111122223333", "us-gov-west-1")
    assert of_team == "photos-of-the-t-111122223333-us-gov-west-1-abc279dd"
