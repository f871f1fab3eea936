"""Work that would hold up everybody else: it is done in processes that can be killed, a few at a time, and nobody waits
for it behind more than a bounded queue. It ends when the client hangs up.
"""
