import gzip
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import DumpError
from mmkg.tasks.tfrecord import Feature, RecordError, masked_crc32c, parse_example, read_records
from tests.tasks.tfrecord_files import crc32c, entry, feature, framed, masked, message, sequence_example, varint

RECORDS = [b"one", b"", bytes(range(256))]
PLAIN = b"".join(map(framed, RECORDS))
ENDS = [19, 35, len(PLAIN)]

numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, allow_nan=False)
values = st.one_of(*(st.lists(kind, max_size=4) for kind in (st.binary(max_size=9), floats, numbers)))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = {bytes: "bytes", float: "float", int: "int64"}


def expected(found):
    return Feature(KINDS[type(found[0])] if found else None, tuple(found))


def test_the_checksum_is_crc_32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    for data in (b"", b"123456789", bytes(32), PLAIN):
        assert struct.pack("<I", masked_crc32c(data)) == masked(data)


@pytest.mark.capability("G4-02")
@pytest.mark.parametrize("write", [bytes, gzip.compress])
def test_records_come_back_in_order(tmp_path, write):
    (tmp_path / "a.tfrecord").write_bytes(write(PLAIN))
    assert list(read_records(tmp_path / "a.tfrecord")) == RECORDS


def test_records_of_another_writer_are_read(tmp_path):
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    with (tmp_path / "a.tfrecord").open("wb") as file:
        for record in RECORDS:
            writer.RecordWriter(file).write(record)
    assert list(read_records(tmp_path / "a.tfrecord")) == RECORDS


def test_a_plain_file_whose_first_length_looks_like_gzip_is_plain(tmp_path):
    record = bytes(0x8B1F)  # 1f 8b, little-endian
    (tmp_path / "a.tfrecord").write_bytes(framed(record))
    assert list(read_records(tmp_path / "a.tfrecord")) == [record]


def read_until_error(path):
    found = []
    with pytest.raises(DumpError) as error:
        for record in read_records(path):
            found.append(record)
    return found, error.value


@pytest.mark.capability("G4-02")
def test_a_plain_file_that_is_cut_anywhere_but_behind_a_record_is_an_error_that_says_where(tmp_path):
    path = tmp_path / "a.tfrecord"
    for size in set(range(1, len(PLAIN))) - set(ENDS):
        path.write_bytes(PLAIN[:size])
        found, error = read_until_error(path)
        number = sum(end <= size for end in ENDS)
        assert found == RECORDS[:number], size
        assert error.reason == "cut"
        assert f"{path}, record {number} from byte {[0, *ENDS][number]} on" in str(error), size


@pytest.mark.capability("G4-02")
def test_a_gzipped_file_that_is_cut_anywhere_is_an_error_after_records_that_were_written(tmp_path):
    path, zipped = tmp_path / "a.tfrecord.gz-00000-of-00005", gzip.compress(PLAIN)
    for size in range(len(zipped)):
        path.write_bytes(zipped[:size])
        found, error = read_until_error(path)
        assert found == RECORDS[: len(found)], size
        assert str(path) in str(error)
        assert ("empty file" in str(error)) == (size == 0)


@pytest.mark.capability("G4-02")
def test_one_wrong_bit_anywhere_is_an_error_and_nothing_behind_it_is_given_out(tmp_path):
    path = tmp_path / "a.tfrecord"
    for place in range(len(PLAIN)):
        damaged = bytearray(PLAIN)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found, error = read_until_error(path)
        assert found == RECORDS[: sum(end <= place for end in ENDS)], place
        assert error.reason == "bad_checksum"


def test_a_gzipped_file_with_a_wrong_byte_is_an_error(tmp_path):
    zipped = bytearray(gzip.compress(PLAIN))
    zipped[-5] ^= 1  # of the checksum of gzip
    (tmp_path / "a.tfrecord").write_bytes(zipped)
    found, error = read_until_error(tmp_path / "a.tfrecord")
    assert (found, error.reason) == (RECORDS, "not_gzip")


def test_a_length_that_no_message_has_is_an_error_before_memory_is_asked_for(tmp_path):
    length = struct.pack("<Q", 2**60)
    (tmp_path / "a.tfrecord").write_bytes(length + masked(length) + bytes(9))
    with pytest.raises(RecordError, match="expected at most 2,147,483,647 bytes, found 1,152,921,504,606,846,976"):
        next(read_records(tmp_path / "a.tfrecord"))


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(DumpError, match="no such file"):
        next(read_records(tmp_path / "a.tfrecord"))
    with pytest.raises(DumpError, match="cannot be read"):
        next(read_records(tmp_path))


@pytest.mark.capability("G4-02")
@settings(max_examples=50)
@given(
    context=st.dictionaries(names, values, max_size=3),
    lists=st.dictionaries(names, st.lists(values, max_size=3), max_size=3),
    packed=st.booleans(),
)
def test_examples_come_back_packed_or_not(context, lists, packed):
    found = parse_example(sequence_example(context, lists, packed=packed))
    assert found.context == {name: expected(each) for name, each in context.items()}
    assert found.feature_lists == {name: tuple(map(expected, steps)) for name, steps in lists.items()}


def test_an_example_is_read_by_hand():
    # features { feature { key: "a" value { int64_list { value: [1, 300, -1] } } } }, every length by hand
    data = "0a 18  0a 16  0a 01 61  12 11  1a 0f  0a 0d  01  ac 02  ff ff ff ff ff ff ff ff ff 01"
    assert parse_example(bytes.fromhex(data)).context == {"a": Feature("int64", (1, 300, -1))}


def descriptors():
    """SequenceExample for the library of Protocol Buffers; a map is written like repeated pairs of key and value."""
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2").FieldDescriptorProto
    file = pytest.importorskip("google.protobuf.descriptor_pb2").FileDescriptorProto(name="example.proto", package="t")
    several, one = descriptor.LABEL_REPEATED, descriptor.LABEL_OPTIONAL
    for name, *fields in (
        ("BytesList", ("value", 1, several, descriptor.TYPE_BYTES)),
        ("FloatList", ("value", 1, several, descriptor.TYPE_FLOAT)),
        ("Int64List", ("value", 1, several, descriptor.TYPE_INT64)),
        (
            "Feature",
            ("bytes", 1, one, ".t.BytesList"),
            ("float", 2, one, ".t.FloatList"),
            ("int64", 3, one, ".t.Int64List"),
        ),
        ("Features", ("entry", 1, several, ".t.Entry")),
        ("Entry", ("key", 1, one, descriptor.TYPE_BYTES), ("value", 2, one, ".t.Feature")),
        ("FeatureLists", ("entry", 1, several, ".t.ListEntry")),
        ("ListEntry", ("key", 1, one, descriptor.TYPE_BYTES), ("value", 2, one, ".t.FeatureList")),
        ("FeatureList", ("feature", 1, several, ".t.Feature")),
        ("SequenceExample", ("context", 1, one, ".t.Features"), ("feature_lists", 2, one, ".t.FeatureLists")),
    ):
        added = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            kinds = {"type_name": kind, "type": descriptor.TYPE_MESSAGE} if isinstance(kind, str) else {"type": kind}
            added.field.add(name=field, number=number, label=label, **kinds)
    pool = pytest.importorskip("google.protobuf.descriptor_pool").DescriptorPool()
    pool.Add(file)
    factory = pytest.importorskip("google.protobuf.message_factory")
    return {
        name: factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))
        for name in ("SequenceExample", "Feature")
    }


def test_what_the_library_of_protocol_buffers_writes_is_read():
    library = descriptors()
    drawn = {"a": [b"x", b""], "b": [1.5, -0.25], "c": [7, -(2**63), 2**63 - 1], "d": []}

    def written(found):
        made = library["Feature"]()
        if found:
            getattr(made, KINDS[type(found[0])]).value.extend(found)
        return made

    example = library["SequenceExample"]()
    for name, found in drawn.items():
        example.context.entry.add(key=name.encode(), value=written(found))
    steps = example.feature_lists.entry.add(key=b"steps")
    steps.value.feature.extend(map(written, drawn.values()))
    parsed = parse_example(example.SerializeToString())
    assert parsed.context == {name: expected(found) for name, found in drawn.items()}
    assert parsed.feature_lists == {"steps": tuple(map(expected, drawn.values()))}


def test_messages_that_come_in_parts_are_one_and_unknown_fields_are_passed_over():
    unknown = (
        varint(9 << 3) + varint(5) + varint(9 << 3 | 1) + bytes(8) + varint(9 << 3 | 5) + bytes(4) + message(9, b"x")
    )
    halves = message(1, entry("a", feature([1]) + unknown + feature([2]))) + unknown
    found = parse_example(halves + message(1, entry("b", feature(["x"], packed=False))))
    assert found.context == {"a": Feature("int64", (1, 2)), "b": Feature("bytes", (b"x",))}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x0a\x05abc", "expected 5 bytes from byte 2 on, found 3"),
        (b"\x0a", "a number that ends"),
        (b"\x0b\x00", "a wire type of 0, 1, 2 or 5, found 3"),
        (b"\x02\x00", "a field number from 1 on, found 0"),
        (b"\x08" + b"\xff" * 10, "a number of at most 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number of at most 64 bits"),
        (b"\x08\x01", "bytes with their length, found wire type 0"),
        (message(1, entry("a", feature([1]) + feature(["x"]))), "a feature of one kind, found int64 and bytes"),
        (message(1, entry("a", message(2, message(1, b"abc")))), "floats of four bytes"),
        (message(1, entry("a", message(2, b"\x08\x01"))), "floats of four bytes, found wire type 0"),
        (message(1, message(1, message(1, b"\xff"))), "a name in UTF-8"),
    ],
)
def test_bytes_that_are_no_example_are_an_error(data, match):
    with pytest.raises(RecordError, match=match) as error:
        parse_example(data)
    assert error.value.reason == "not_an_example"


def test_a_feature_that_comes_twice_is_an_error():
    with pytest.raises(RecordError, match="found 'a' twice") as error:
        parse_example(message(1, entry("a", feature([1]))) + message(1, entry("a", feature([2]))))
    assert error.value.reason == "repeated_key"


@settings(max_examples=100)
@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.tuples(st.binary(max_size=3), st.integers(0, 30)).map(
            lambda drawn: sequence_example({"a": [1, 2]}, {"b": [["x"], []]})[: drawn[1]] + drawn[0]
        ),
    )
)
def test_any_bytes_are_an_example_or_an_error_of_ours(data):
    try:
        found = parse_example(data)
    except RecordError as error:
        assert error.reason in {"not_an_example", "repeated_key"}
    else:
        assert all(isinstance(each, Feature) for each in found.context.values())
