"""What could serve: offerings and replicas, priced for each stream, and what stands beside them."""
