"""How properties choose their examples: the same ones each time and everywhere, or at random for who explores."""

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

FIXED, EXPLORE = "fixed", "explore"


def register_profiles() -> None:
    """Make `fixed` the profile; `--hypothesis-profile explore` chooses at random, and remembers what failed.

    Properties hold however slow a machine is: nothing in them has a limit of time.
    """
    slow = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile(EXPLORE, **slow, derandomize=False)
    settings.register_profile(FIXED, **slow, derandomize=True, database=None)
    settings.load_profile(FIXED)
    # By itself Hypothesis also tries constants of the modules that happen to be imported, and no setting says not to.
    providers._get_local_constants = Constants
