"""What the measuring scripts of perf/ share. Python's standard library only, one idea a module:

script      how a script starts and ends: environment, signals, exit codes
cluster     a fresh cluster in a scratch directory, stopped and removed whatever happens
generator   one run of quorate-bench
cpu         CPU time of every thread of the servers, for exactly the measured window
memory      what the first touch of memory costs here
measure     one measured run: cluster, generator and CPU put into one line of results
results     the lines of perf/results.ndjson, their medians
experiments the standing experiments
curve       those of the cost curve, its table and its picture
placement   the figures of placement on a running cluster, their bounds
pairs       two builds by turns, and what the pairs say
floor       one flush and one round trip, as the bare program measures them
svg         line charts
flame       flame graphs
"""
