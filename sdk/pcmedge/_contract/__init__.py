"""Generated code of the contract in proto/; made by scripts/generate_contract.py, never edited by hand."""
