"""Names of models, the weights they stand for, and how weights are downloaded."""
