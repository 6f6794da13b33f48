//! Request bodies. A body is never parsed into a tree: PostgreSQL reads the JSON, so here it is only checked, and the
//! keys of its objects are collected.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::types::{Action, InvokeMethod, Mutation, Payload};
use super::url;
use crate::error::Error;
use crate::limit;
use crate::media_type::MediaType;

/// Reads the body as `content_type` says, when `action` has one; and the columns it writes.
pub(super) fn parse(
    body: &Bytes,
    content_type: &MediaType,
    columns: Option<&BTreeSet<String>>,
    action: &Action,
) -> Result<(Option<Payload>, BTreeSet<String>), Error> {
    let (is_routine, takes_columns) = match action {
        Action::RelationMutate { mutation: Mutation::Create | Mutation::Update, .. } => (false, true),
        Action::RelationMutate { mutation: Mutation::SingleUpsert, .. } => (false, false),
        Action::Routine { method: InvokeMethod::Write, .. } => (true, true),
        _ => return Ok((None, BTreeSet::new())),
    };
    let columns = columns.filter(|_| takes_columns);
    if *content_type == MediaType::ApplicationJson && limit::json_deeper_than(body, limit::JSON_DEPTH.most) {
        return Err(Error::Limit(limit::JSON_DEPTH));
    }
    let payload = match (content_type, is_routine) {
        (MediaType::ApplicationJson, _) if columns.is_some() => Payload::RawJson { raw: body.clone() },
        (MediaType::ApplicationJson, true) if body.is_empty() => {
            Payload::Json { raw: body.clone(), keys: BTreeSet::new() }
        }
        (MediaType::ApplicationJson, _) => json(body)?,
        (MediaType::TextCsv, _) => csv(body)?,
        (MediaType::UrlEncoded, _) => form(body, is_routine)?,
        (MediaType::TextPlain | MediaType::TextXml | MediaType::OctetStream, true) => {
            Payload::Raw { raw: body.clone() }
        }
        (other, _) => return Err(Error::InvalidBody(format!("Content-Type not acceptable: {}", other.mime()))),
    };
    let written = match (&payload, columns) {
        (Payload::Json { keys, .. } | Payload::UrlEncoded { keys, .. }, _) => keys.clone(),
        (Payload::RawJson { .. }, Some(columns)) => columns.clone(),
        _ => BTreeSet::new(),
    };
    Ok((Some(payload), written))
}

/// An array without elements, which is also what every JSON that is no object and no array counts as.
fn empty_array() -> Payload {
    Payload::Json { raw: Bytes::from_static(b"[]"), keys: BTreeSet::new() }
}

fn json(body: &Bytes) -> Result<Payload, Error> {
    // Why the JSON is invalid would be told in words of our parser, not PostgREST's, so it is not told at all.
    match serde_json::from_slice(body).map_err(|_| Error::InvalidBody("Empty or invalid json".into()))? {
        Shape::Objects(keys) => Ok(Payload::Json { raw: body.clone(), keys }),
        Shape::Mixed => Err(Error::InvalidBody("All object keys must match".into())),
        Shape::Empty => Ok(empty_array()),
    }
}

/// What a JSON text is, as far as writing it to a table is concerned.
enum Shape {
    /// One object, or objects with the same keys.
    Objects(BTreeSet<String>),
    /// An array of objects with different keys, or of other things.
    Mixed,
    Empty,
}

impl<'de> de::Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Shape, A::Error> {
        Ok(Shape::Objects(all_keys(map)?))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let Some(first) = seq.next_element_seed(FirstElement)? else { return Ok(Shape::Empty) };
        let Some(keys) = first else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Shape::Mixed);
        };
        let mut known = KnownKeys::new(keys);
        while let Some(uniform) = seq.next_element_seed(NextElement(&mut known))? {
            if !uniform {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Shape::Mixed);
            }
        }
        Ok(Shape::Objects(known.names.into_iter().collect()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Empty)
    }
}

fn all_keys<'de, A: MapAccess<'de>>(mut map: A) -> Result<BTreeSet<String>, A::Error> {
    let mut keys = BTreeSet::new();
    while let Some(key) = map.next_key()? {
        keys.insert(key);
        map.next_value::<IgnoredAny>()?;
    }
    Ok(keys)
}

/// The keys of an array's first element; None when it is no object.
struct FirstElement;

/// Whether a further element is an object with the keys of the first.
struct NextElement<'k>(&'k mut KnownKeys);

/// Keys of the first object, sorted, and which of them the object at hand has.
struct KnownKeys {
    names: Vec<String>,
    /// The object (counted from 1) in which each key was seen last.
    seen_in: Vec<usize>,
    object: usize,
}

impl KnownKeys {
    fn new(names: BTreeSet<String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        Self { seen_in: vec![0; names.len()], names, object: 0 }
    }
}

/// One key of an object: its place among the known ones.
struct KeyIn<'k> {
    names: &'k [String],
    /// Where it is looked for first: objects of one array mostly have the same order.
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for KeyIn<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIn<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        if self.names.get(self.guess).is_some_and(|name| name == key) {
            return Ok(Some(self.guess));
        }
        Ok(self.names.binary_search_by(|name| name.as_str().cmp(key)).ok())
    }
}

/// Implements a seed that reads objects and takes everything else for `$otherwise`.
macro_rules! object_seed {
    ($seed:ty, $value:ty, $otherwise:expr) => {
        impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for $seed {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$value, A::Error> {
                self.object(map)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<$value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok($otherwise)
            }

            fn visit_bool<E>(self, _: bool) -> Result<$value, E> {
                Ok($otherwise)
            }

            fn visit_i64<E>(self, _: i64) -> Result<$value, E> {
                Ok($otherwise)
            }

            fn visit_u64<E>(self, _: u64) -> Result<$value, E> {
                Ok($otherwise)
            }

            fn visit_f64<E>(self, _: f64) -> Result<$value, E> {
                Ok($otherwise)
            }

            fn visit_str<E>(self, _: &str) -> Result<$value, E> {
                Ok($otherwise)
            }

            fn visit_unit<E>(self) -> Result<$value, E> {
                Ok($otherwise)
            }
        }
    };
}

object_seed!(FirstElement, Option<BTreeSet<String>>, None);
object_seed!(NextElement<'_>, bool, false);

impl FirstElement {
    fn object<'de, A: MapAccess<'de>>(self, map: A) -> Result<Option<BTreeSet<String>>, A::Error> {
        all_keys(map).map(Some)
    }
}

impl NextElement<'_> {
    fn object<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let known = self.0;
        known.object += 1;
        let mut distinct = 0;
        let mut foreign = false;
        let mut guess = 0;
        while let Some(place) = map.next_key_seed(KeyIn { names: &known.names, guess })? {
            match place {
                Some(place) => {
                    if std::mem::replace(&mut known.seen_in[place], known.object) != known.object {
                        distinct += 1;
                    }
                    guess = place + 1;
                }
                None => foreign = true,
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(!foreign && distinct == known.names.len())
    }
}

/// CSV with a header line becomes a JSON array of objects whose values are strings; the word `NULL` becomes null.
/// Fields beyond the header are dropped; the first line says how many of the columns there are. Long names over many
/// short rows would be out of proportion to the body.
fn csv(body: &Bytes) -> Result<Payload, Error> {
    let invalid = |error: &dyn fmt::Display| Error::InvalidBody(error.to_string());
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body.as_ref());
    let header = reader.headers().map_err(|error| invalid(&error))?.clone();
    if header.is_empty() {
        return Err(Error::InvalidBody("parse error (not enough input)".into()));
    }
    let mut json = Vec::with_capacity(body.len() * 2);
    let mut width = None;
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| invalid(&error))? {
        let fields = record.len().min(header.len());
        if *width.get_or_insert(fields) != fields {
            return Err(Error::InvalidBody("All lines must have same number of fields".into()));
        }
        json.push(if json.is_empty() { b'[' } else { b',' });
        let row = CsvRow { header: &header, record: &record };
        serde_json::to_writer(&mut json, &row).map_err(|error| invalid(&error))?;
        if json.len() > MIN_CSV_ALLOWANCE {
            limit::CSV_GROWTH.check(json.len() / body.len())?;
        }
    }
    let Some(width) = width else { return Ok(empty_array()) };
    let keys = header.iter().take(width).map(str::to_owned).collect();
    json.push(b']');
    Ok(Payload::Json { raw: json.into(), keys })
}

/// Bytes of JSON that any CSV may become.
const MIN_CSV_ALLOWANCE: usize = 16 * 1024 * 1024;

struct CsvRow<'a> {
    header: &'a csv::StringRecord,
    record: &'a csv::StringRecord,
}

impl Serialize for CsvRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.header.iter().zip(self.record.iter()) {
            map.serialize_entry(name, &(value != "NULL").then_some(value))?;
        }
        map.end()
    }
}

/// A form: arguments for a routine, one object for a table.
fn form(body: &Bytes, is_routine: bool) -> Result<Payload, Error> {
    let text = String::from_utf8_lossy(body);
    let pairs =
        url::pairs(&text).map(|(name, value)| (name.into_owned(), value.map_or(String::new(), Cow::into_owned)));
    if is_routine {
        let pairs: Vec<(String, String)> = pairs.collect();
        pairs.iter().try_for_each(|(_, value)| limit::check_value_depth(value))?;
        let keys = pairs.iter().map(|(name, _)| name.clone()).collect();
        return Ok(Payload::UrlEncoded { pairs, keys });
    }
    let object: BTreeMap<String, String> = pairs.collect();
    // Writing text to memory does not fail.
    let raw = serde_json::to_vec(&object).unwrap_or_default().into();
    Ok(Payload::Json { raw, keys: object.into_keys().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::QualifiedIdentifier;

    fn insert() -> Action {
        Action::RelationMutate { target: QualifiedIdentifier::new("s", "t"), mutation: Mutation::Create }
    }

    fn call() -> Action {
        Action::Routine { target: QualifiedIdentifier::new("s", "f"), method: InvokeMethod::Write }
    }

    fn check(action: &Action, content_type: &str, body: &'static str, expected: Result<(&str, &[&str]), &str>) {
        let body = Bytes::from_static(body.as_bytes());
        let result = parse(&body, &MediaType::parse(content_type), None, action).map(|(payload, columns)| {
            let text = match payload.unwrap() {
                Payload::Json { raw, keys } => {
                    assert_eq!(keys, columns);
                    raw
                }
                Payload::RawJson { raw } | Payload::Raw { raw } => raw,
                Payload::UrlEncoded { pairs, .. } => format!("{pairs:?}").into(),
            };
            (String::from_utf8(text.to_vec()).unwrap(), columns.into_iter().collect::<Vec<_>>())
        });
        let expected = expected
            .map(|(text, columns)| (text.to_owned(), columns.iter().map(ToString::to_string).collect()))
            .map_err(|message| Error::InvalidBody(message.into()));
        assert_eq!(result, expected, "{content_type} {body:?}");
    }

    #[test]
    fn json_is_checked_and_its_keys_collected() {
        const MATCH: &str = "All object keys must match";
        const INVALID: &str = "Empty or invalid json";
        let check = |body, expected| check(&insert(), "application/json", body, expected);
        check(r#"{"b":1,"a":{"c":[1]}}"#, Ok((r#"{"b":1,"a":{"c":[1]}}"#, &["a", "b"])));
        check(r#" [{"b":1,"a":2},{"a":3,"b":4}] "#, Ok((r#" [{"b":1,"a":2},{"a":3,"b":4}] "#, &["a", "b"])));
        check(r#"[{"a":1,"a":2},{"a":1}]"#, Ok((r#"[{"a":1,"a":2},{"a":1}]"#, &["a"])));
        check(r#"[{"\u0061":1},{"a":1}]"#, Ok((r#"[{"\u0061":1},{"a":1}]"#, &["a"])));
        check(r#"[{"a":1},{"b":1}]"#, Err(MATCH));
        check(r#"[{"a":1,"b":2},{"a":1}]"#, Err(MATCH));
        check(r#"[{"a":1},{"a":1,"b":2}]"#, Err(MATCH));
        check(r#"[{"a":1,"b":2},{"a":1,"a":2}]"#, Err(MATCH));
        check(r#"[{"a":1},7]"#, Err(MATCH));
        check(r#"[{"a":1},[7]]"#, Err(MATCH));
        check(r#"[{"a":1},null,{"a":1}]"#, Err(MATCH));
        check(r#"["x",{"a":1}]"#, Err(MATCH));
        check("[[]]", Err(MATCH));
        check("[]", Ok(("[]", &[])));
        check("[{},{}]", Ok(("[{},{}]", &[])));
        check("{}", Ok(("{}", &[])));
        check("null", Ok(("[]", &[])));
        check("-1.5e3", Ok(("[]", &[])));
        check("\"x\"", Ok(("[]", &[])));
        check("", Err(INVALID));
        check("{", Err(INVALID));
        check(r#"[{"a":1},{"b":1},"#, Err(INVALID));
        check(r#"{"a":1} x"#, Err(INVALID));
        check(r#"{"a":01}"#, Err(INVALID));
    }

    #[test]
    fn what_postgresql_could_not_read_is_refused() {
        let columns = BTreeSet::from(["a".to_owned()]);
        let check = |levels: usize, columns: Option<&BTreeSet<String>>, expected: Result<(), Error>| {
            let body = Bytes::from(format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels)));
            for action in [insert(), call()] {
                let result = parse(&body, &MediaType::ApplicationJson, columns, &action).map(drop);
                assert_eq!(result, expected, "{levels}");
            }
        };
        let refused = || Err(Error::Limit(limit::JSON_DEPTH));
        for columns in [None, Some(&columns)] {
            check(1_999, columns, Ok(()));
            check(2_000, columns, refused());
            check(1_000_000, columns, refused());
        }
        let open = Bytes::from("[".repeat(1_000_000));
        assert_eq!(parse(&open, &MediaType::ApplicationJson, None, &insert()).map(drop), refused());
        let form = Bytes::from(format!("a={}", "[".repeat(2_001)));
        assert_eq!(
            parse(&form, &MediaType::UrlEncoded, None, &call()).map(drop),
            Err(Error::Limit(limit::VALUE_DEPTH))
        );
    }

    #[test]
    fn csv_stays_in_proportion() {
        // Each byte of it would be 30,000 bytes of JSON.
        let csv = Bytes::from(format!("{}{}", "n".repeat(60_000), "\n1".repeat(60_000)));
        let result = parse(&csv, &MediaType::TextCsv, None, &insert()).map(drop);
        assert_eq!(result, Err(Error::Limit(limit::CSV_GROWTH)));
    }

    #[test]
    fn other_bodies() {
        check(
            &insert(),
            "text/csv",
            "a,b\n1,\"x \"\"y\"\"\"\n\nNULL,z,extra\n",
            Ok((r#"[{"a":"1","b":"x \"y\""},{"a":null,"b":"z"}]"#, &["a", "b"])),
        );
        check(&insert(), "text/csv", "a,b\n1,2\n3\n", Err("All lines must have same number of fields"));
        check(&insert(), "text/csv", "a,b\n1\n3,4\n", Err("All lines must have same number of fields"));
        check(&insert(), "text/csv", "a,b\n1\n2\n", Ok((r#"[{"a":"1"},{"a":"2"}]"#, &["a"])));
        check(&insert(), "text/csv", "a,b\n", Ok(("[]", &[])));
        check(&insert(), "text/csv", "", Err("parse error (not enough input)"));
        const FORM: &str = "application/x-www-form-urlencoded";
        check(&insert(), FORM, "b=x+y&a=%22&b=2", Ok((r#"{"a":"\"","b":"2"}"#, &["a", "b"])));
        check(&call(), FORM, "b=1&a=2&b=3", Ok((r#"[("b", "1"), ("a", "2"), ("b", "3")]"#, &["a", "b"])));
        check(&call(), "text/plain", "raw", Ok(("raw", &[])));
        check(&call(), "application/json", "", Ok(("", &[])));
        check(&insert(), "text/plain", "raw", Err("Content-Type not acceptable: text/plain"));
        check(&call(), "image/png", "raw", Err("Content-Type not acceptable: image/png"));
    }

    #[test]
    fn columns_of_the_query_string_leave_the_body_unread() {
        let columns = BTreeSet::from(["a".to_owned()]);
        let body = Bytes::from_static(b"no json");
        let (payload, written) = parse(&body, &MediaType::ApplicationJson, Some(&columns), &insert()).unwrap();
        assert_eq!(payload, Some(Payload::RawJson { raw: body.clone() }));
        assert_eq!(written, columns);
        let put =
            Action::RelationMutate { target: QualifiedIdentifier::new("s", "t"), mutation: Mutation::SingleUpsert };
        assert!(parse(&body, &MediaType::ApplicationJson, Some(&columns), &put).is_err());
        let delete = Action::RelationMutate { target: QualifiedIdentifier::new("s", "t"), mutation: Mutation::Delete };
        assert_eq!(parse(&body, &MediaType::ApplicationJson, None, &delete).unwrap().0, None);
    }
}
