"""Cases of the contract tests, one file for each folder of the package."""
