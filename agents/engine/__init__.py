"""An inference engine: continuous batching for the language models of `models/lm`.

config       sizes; imports no JAX
pages        reference counts of pages (KV) and of snapshots (recurrent states)
radix        the prefix cache: pages by the tokens that they hold
memory       what requests hold of these, share and give up
request      what a caller iterates over
stops        which token is the last one
policy       who gets a slot, who gives way
buckets      shapes of the compiled steps
work         a planned step
scheduler    plans a step and accounts for it; plain Python
store        the device's pages and states, as caches of `models/lm`
sharding     where all that lies on a mesh
sampling     tokens from scores
programs     the compiled steps
device       runs planned steps
engine       the asyncio loop around them, with the protocol of `agents/search`
speculative  guessed tokens, verified in one step
"""
