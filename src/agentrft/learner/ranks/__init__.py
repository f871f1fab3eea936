"""A learner on several ranks: who computes which groups, how what they found is added up, and weights in shards.

Every rank runs the same update over its own groups; with one rank nothing here has an effect.
"""
