"""Search for the plan whose ledger is cheapest."""
