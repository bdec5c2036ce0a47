"""Pictures of entities: where they may be had, how they come here safely and politely, and which of them are kept.

In the order of the way: `discover` (the graph, lists and folders give candidates), `fetch` and `collect` (candidates
become bytes, every attempt a row of the ledger), `decode` (bytes become pictures, in processes with limits), `gates`
(what is kept of an entity's pictures, and why not the rest).
"""
