"""What tests, benchmarks and examples share: oracle, scenes, laws, tolerances, samples."""
