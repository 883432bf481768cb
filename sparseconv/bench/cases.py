"""What is timed, and on which inputs: every case by its name."""

from sparseconv.bench import index_cases, layer_cases, net_cases

CASES = {case.name: case for part in (index_cases, layer_cases, net_cases) for case in part.CASES}
