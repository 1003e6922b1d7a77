"""A simulated shop, the bazaar, whose truth is known.

Items lie in categories of departments, are made by makers, form series and have complements; popularity follows a Zipf law.
Visitors like one to four categories, with weights that drift from session to session, and prefer one maker in each department.
The next item of a visitor is drawn from a mixture of four ways to choose, restricted to items not taken before::

    P(i) ~ 1[i not taken] * ( 0.30 series(i) + 0.10 complement(i) + 0.10 browse(i) + 0.50 topic(i) )

``docs/bazaar.md`` has all equations, constants and their reasons. The constants were fixed before any model ran on the data.
"""

from benchbed.data.simulate.files import write_raw
from benchbed.data.simulate.oracle import Truth, read_truth, target_probabilities
from benchbed.data.simulate.spec import SIMULATOR_VERSION, SimulateSpec, read_settings

__all__ = ["SIMULATOR_VERSION", "SimulateSpec", "Truth", "read_settings", "read_truth", "target_probabilities", "write_raw"]
