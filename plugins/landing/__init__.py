"""Singer on the outside, COPY on the inside: a date-partitioned landing zone between sources and a warehouse.

The packages in the order of the data's way; docs/architecture.md says why they are cut so:

    plugins     the four plugins, as Meltano starts them
    extract     PostgreSQL and CSV files -> Singer
    singer      what every tap and target shares: messages, sinks, signals, the adapter to the Singer SDK
    zone        the landing zone: layout, commit, run log, garbage collection, target-csv
    load        one landed date -> Singer -> the warehouse: staging, atomic swap, history, views, target-postgres
    verify      source = files = warehouse, differences between dates, preflight check, backfill plan
    cli         the `landing` command, one module a command
    api         what the DAG, the notebook, the demo and inspection/ use

and what they stand on:

    core        errors, settings, dates, sources, retry commands, commit point
    storage     the one seam for files: a protocol, the local folder, hashing and compression
    model       columns, tables, manifest, the CSV dialect, names
    postgres    sessions, TLS, transactions, COPY, worker connections
"""

__version__ = "0.1.0"
