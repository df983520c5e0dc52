"""Singer on the outside, COPY on the inside: a dated landing zone between PostgreSQL, CSV files and a warehouse.

The modules in the order of the data's way:

    errors          the one tree of exceptions
    committing      the commit point of a run: passed once, or closed by a signal
    project         what the project and its environment say: sources, dates, the landing root
    runfiles        files of Meltano's that runs at once share, taken as private copies
    files           landed files: hashed as they stream, compressed where their name says so
    dialect         the one CSV dialect, and how SQL types look in it and in Singer
    checked         what a manifest says, field by field
    zone            the landing zone: its layout, its manifest, its atomic commit
    replacement     what may take the place of a landed date
    attempts        what was tried: a log for each date, also of those that never came to be
    session         one session with a PostgreSQL server: its waits are watched
    database        PostgreSQL connections and COPY, hashed as it streams
    workers         several connections at work side by side
    messages        Singer messages as a target reads them, refused where they can't be taken as they were meant
    foreign         values of another tap's RECORDs: each in its column's type, or refused
    mapped          streams whose rows a user's stream maps change
    protocol        what our plugins say to each other in Singer's messages
    source_tables   the tables of a source database, with exact types
    reads           the relations that tables and views read, at any depth
    snapshot        one moment of a source database, read by several connections at once
    discovery       the way into tap-postgres: its catalog by itself, since Meltano asks for it in every run
    tap_postgres    PostgreSQL -> Singer
    csv_text        a CSV file as text: decoded, its dialect found, every line checked
    csv_types       SQL types of a CSV file's columns: inferred without loss, or declared
    csv_keys        rows of a CSV file that have an earlier row's key
    quarantine      bad rows of a table, put aside into a file beside it
    csv_files       CSV files of any dialect -> ours
    tap_csv         CSV files, or one landed date -> Singer
    target_csv      Singer -> the landing zone
    views           views replaced together with what people built on them
    comments        what the source says of tables and columns, kept as comments
    widening        the type that holds every value of two types
    history         a table of history: a partition for each date
    ledger          what was loaded when, from which run
    staging         a landed table copied into the warehouse and checked, not yet in its place
    warehouse       one swap for a whole date
    target_postgres Singer -> the warehouse
    proof           source = files = warehouse
    connections     source and warehouse for DBeaver and pgAdmin
    certify         what an extract and a load would make of each table and column
    plan            what each date is, and what a backfill would do with it
    changes         what changed from one loaded date to another
    retention       what gc removes
    dropping        one date taken out of warehouse and landing zone
    report          what the `landing` command shows
    cli             the `landing` command
    deferred        a module that is imported only when it is wanted
"""

__version__ = "0.1.0"
