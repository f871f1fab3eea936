"""What the example systems share: a tool server in the production wire format, and how a system is run and measured."""
