"""A date-partitioned landing zone between sources and a warehouse: Singer plugins that transfer data by COPY.

The packages in the order of the data flow; docs/architecture.md explains the structure:

    plugins     entry points of the four plugins
    extract     PostgreSQL and CSV files -> Singer
    singer      shared by all taps and targets: messages, sinks, signals, the adapter to the Singer SDK
    zone        the landing zone: layout, commit, run log, garbage collection, target-csv
    load        one landed date -> Singer -> the warehouse: staging, atomic swap, history, views, target-postgres
    verify      checksums of source, files and warehouse, differences between dates, preflight check, backfill plan
    cli         the `landing` command, one module per command
    api         the public interface, for the DAG, the notebook, the demo and inspection/

and the packages below them:

    core        errors, settings, dates, sources, retry commands, commit point
    storage     access to landed files: a protocol, the local directory, hashing and compression
    model       columns, tables, manifest, the CSV dialect, names
    postgres    sessions, stall detection, TLS, transactions, COPY, worker pool
"""

__version__ = "0.1.0"
