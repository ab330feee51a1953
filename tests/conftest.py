"""What every test file shares."""

from hypothesis import settings

# The same examples on every run: a failure can be seen again, and one that is not the change's fault does not stop it.
settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")
