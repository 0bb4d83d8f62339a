"""GraphQL reads for the tools of SDK users: five questions about runs and events, bounded in all they cost.

    serving.py    the request and its answer
    query.py      the body of a request
    answering.py  parse, bound, validate, execute: in the thread that reads the history
    bounds.py     what a query may ask for, looked at before it is validated
    schema.py     the types, in SDL
    resolving.py  what each field is
    spans.py      a run's steps as a tree of spans

``graphql`` is imported with the first query: it takes a third of a second.
"""
