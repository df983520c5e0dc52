"""The columns of an entity: its files' headers, and the names that the columns get."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from landing.core.errors import BadFileError, SettingError
from landing.extract.csv import provenance
from landing.extract.csv.declaration import CONTROL, Declaration
from landing.model.naming import short_hash
from landing.model.schema import MAX_COLUMNS, NAME_BYTES
from landing.storage.base import Object

SHORT = reprlib.Repr()  # names from a file can be of any number and length
SHORT.maxstring, SHORT.maxother = 300, 300
LISTED = 100  # names or files in a message
Order = Sequence[int] | None


def column_order(header: Sequence[str], first: Sequence[str]) -> Order:
    """For each column of the entity's first file, its position in this one; None if it is the same."""
    return None if header == first else [header.index(name) for name in first]


def refuse_differences(place: Object, names: Sequence[str], others: Mapping[Object, Sequence[str]]) -> None:
    """Raise BadFileError if a file's header has other names than the first file's, in whatever order."""
    differing = {other: found for other, header in others.items() if (found := _difference(header, names))}
    if not differing:
        return
    (first, found), *rest = differing.items()
    further = f". Likewise: {_listed([f'{other} ({difference})' for other, difference in rest])}" if rest else ""
    raise BadFileError(first, 1, f"the columns differ from those of {place}: {found}{further}",
                       files=_odd({place: names, **others}))


def _odd(headers: Mapping[Object, Sequence[str]]) -> list[Object]:
    """Files that have other columns than most; none if no columns are the most frequent."""
    groups = Counter(tuple(sorted(header)) for header in headers.values()).most_common(2)
    if len(groups) < 2 or groups[0][1] == groups[1][1]:
        return []
    return [place for place, header in headers.items() if tuple(sorted(header)) != groups[0][0]]


def _difference(header: Sequence[str], names: Sequence[str]) -> str:
    """Columns that one header has more often than the other, in words; empty if there are none."""
    missing, additional = (Counter(one) - Counter(other) for one, other in ((names, header), (header, names)))
    return "; ".join(f"{what} {_listed([*map(SHORT.repr, some)])}"
                     for what, some in (("missing", missing), ("additional", additional)) if some)


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - LISTED:,} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + more


def column_names(declaration: Declaration, header: Sequence[str], place: Object) -> list[str]:
    """Column names after `rename` and `long_headers`, then those of new derived columns.

    Raises:
        BadFileError: Names are invalid or not unique; it lists all of them.
        SettingError: The declaration names columns that do not exist; BadFileError where refused files are moved.
    """
    added = [column.name for column in provenance.COLUMNS] if declaration.metadata else []
    if len(header) + len(added) > MAX_COLUMNS:
        raise BadFileError(place, 1, f"{len(header):,} columns{f' and {len(added)} of metadata' if added else ''}; "
                                    f"PostgreSQL's limit is {MAX_COLUMNS:,}")
    shorten = _shortened if declaration.long_headers == "shorten" else str
    names = [declaration.rename[name] if name in declaration.rename else shorten(name) for name in header]
    names += [name for name in declaration.derive if name not in names and name not in header]
    _refuse_unknown(declaration, header, names, place)
    if own := [name for name in names if name in added]:
        raise BadFileError(place, 1, f"the file has {_listed([*map(repr, own)])}, which `metadata: true` would add. "
                                    f"Rename under `rename` of entity {declaration.entity}, or switch metadata off")
    if faults := [*_faults(names)]:
        hint = f" `long_headers: shorten` for entity {declaration.entity} shortens long names." if (
            shorten is str and any(len(name.encode()) > NAME_BYTES for name in names)) else ""
        raise BadFileError(place, 1, f"{_listed(faults)}. Rename under `rename` of entity {declaration.entity}, or "
                                    f"correct the header.{hint}".rstrip("."))
    return names


def _shortened(name: str) -> str:
    """A long name, cut, and with a hash of all of it: it does not depend on what else the file has."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    ending = "_" + short_hash(name)
    return name.encode()[: NAME_BYTES - len(ending)].decode(errors="ignore") + ending


def _refuse_unknown(declaration: Declaration, header: Sequence[str], names: Sequence[str], place: Object) -> None:
    """`rename` names columns of the header; all other options may use the new names, too.

    Where refused files are moved, the file is at fault: most often it came with other columns than those before.
    """
    known = {option: {*header, *([] if option == "rename" else names)} for option in declaration.columns_named}
    unknown = {option: sorted({*columns} - known[option]) for option, columns in declaration.columns_named.items()}
    if not any(unknown.values()):
        return
    found = "; ".join(f"{option}: {_listed([*map(repr, some)])}" for option, some in unknown.items() if some)
    reason = (f"the declaration names columns that do not exist ({found}). {place} has "
              f"{_listed([*map(SHORT.repr, header)])}")
    if declaration.after.failed:
        raise BadFileError(place, 1, reason)
    raise SettingError(f"tap-csv, entity {declaration.entity!r}: {reason}. Nothing of this source's date was "
                       "committed. Correct it under tap-csv in meltano.yml, and run again.")


def _faults(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with each invalid name."""
    times = Counter(names)
    for number, name in enumerate(names, 1):
        if fault := _fault(name, times[name]):
            yield f"column {number}, {SHORT.repr(name)}, {fault}"


def _fault(name: str, times: int) -> str | None:
    size = len(name.encode())
    if not name:
        return "has no name"
    if times > 1:
        return f"occurs {times} times in the header"
    if size > NAME_BYTES:
        return f"has a name of {size} bytes; PostgreSQL's limit is {NAME_BYTES}"
    return "has a control character in its name" if CONTROL.search(name) else None
