"""What is timed, and on which inputs: every case by its name."""

from sparseconv.bench import index_cases, layer_cases, net_cases, own_cases

PARTS = (index_cases, layer_cases, own_cases, net_cases)
CASES = {case.name: case for part in PARTS for case in part.CASES}
