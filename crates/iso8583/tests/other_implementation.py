"""Lets pyiso8583 decode messages and build them from their values, for the test beside this file.

The first line of the input has the specs as they are in their TOML files, as JSON. Every other line is a
message: its spec, its values, and its bytes as the codec under test wrote them. For each, a line comes out:
the bytes that pyiso8583 makes of the values. What it reads in the given bytes must be the values, or this
stops with an error that says which message and where.

What the standard says of its fields, pyiso8583 knows by its own table. Padding, columns, tags and the choice of
a layout are not its business, and done here.
"""

import copy
import json
import sys

import iso8583
import iso8583.specs


def field_spec(field):
    """One of our fields, in pyiso8583's terms."""
    kind, encoding = field["kind"], field.get("encoding", "ascii")
    length, digits = next(
        (field[name], digits)
        for digits, name in ((0, "length"), (2, "ll"), (3, "lll"), (4, "llll"))
        if name in field
    )
    packed_prefix = field.get("prefix", encoding) == "bcd"
    theirs = {
        "data_enc": "ascii" if encoding in ("ascii", "hex") else "b",
        "len_enc": "bcd" if packed_prefix else "ascii",
        "len_type": (digits + 1) // 2 if packed_prefix else digits,
        "max_len": length * 2 if encoding == "hex" else length,
        "desc": field["name"],
    }
    if encoding == "bcd":
        side, filler = field.get("filler", "left-0").split("-")
        theirs.update({"len_count": "nibbles", f"{side}_pad": filler})
    return theirs


def their_spec(ours, all_of_ours):
    if "extends" in ours:
        spec = their_spec(all_of_ours[ours["extends"]], all_of_ours)
    else:
        spec = copy.deepcopy(iso8583.specs.default_ascii)
    if ours["name"] == "iso87-ascii":
        # Chip data as text, in their table; reserved, in the standard of 1987.
        spec["55"]["max_len"] = 999
        return spec
    for number, field in ours["field"].items():
        spec[number] = field_spec(field)
    if ours.get("bitmap") == "binary":
        for bitmap in ("p", "1"):
            spec[bitmap] = copy.deepcopy(iso8583.specs.default[bitmap])
    if ours.get("mti") == "bcd":
        spec["t"].update({"data_enc": "b", "max_len": 2})
    return spec


def our_field(number, ours, all_of_ours):
    if number in ours["field"]:
        return ours["field"][number]
    return our_field(number, all_of_ours[ours["extends"]], all_of_ours)


def padded(value, rule):
    if rule.get("pad") == "zeros":
        return value.rjust(rule["length"], "0")
    if rule.get("pad") == "spaces":
        return value.ljust(rule["length"])
    return value


def joined(parts, values, field):
    """A field of parts as one text. `parts` is in the order of the message."""

    def holds(when):
        types = when.get("mti", [])
        fields = when.get("fields", {})
        return (not types or values["t"] in types) and all(values.get(n) == v for n, v in fields.items())

    layout = next(layout for layout in field["layout"] if holds(layout.get("when", {})))
    if "columns" in layout:
        columns = layout["columns"][: len(parts)]
        return "".join(padded(dict(parts)[column["name"]], column) for column in columns)
    tags = {part["name"]: part["tag"] for part in layout["tagged"]["parts"]}
    digits = layout["tagged"]["length"]
    return "".join(f"{tags[name]}{len(value):0{digits}}{value}" for name, value in parts)


def main():
    ours = json.loads(sys.stdin.readline())
    theirs = {name: their_spec(spec, ours) for name, spec in ours.items()}
    for line, text in enumerate(sys.stdin.readlines(), start=1):
        message = json.loads(text)
        name, values = message["spec"], message["values"]
        raw = {"t": values["t"]}
        for number, value in values.items():
            if number != "t":
                field = our_field(number, ours[name], ours)
                is_plain = isinstance(value, str)
                raw[number] = padded(value, field) if is_plain else joined(value, values, field)
        decoded, _ = iso8583.decode(bytes.fromhex(message["bytes"]), theirs[name])
        read = {number: value for number, value in decoded.items() if number not in ("p", "1", "h")}
        if read != raw:
            different = sorted(n for n in read.keys() | raw.keys() if read.get(n) != raw.get(n))
            sys.exit(
                f"message {line} of {name}: fields {', '.join(different)} are read otherwise, as "
                f"{[read.get(n) for n in different]} and not {[raw.get(n) for n in different]}"
            )
        encoded, _ = iso8583.encode(dict(raw), theirs[name])
        print(encoded.hex())


if __name__ == "__main__":
    main()
