//! PostgreSQL array literals, for parameters of our own queries.

use bytes::Bytes;

pub(crate) fn text_array<'a>(items: impl Iterator<Item = &'a str>) -> Bytes {
    let mut out = String::from("{");
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_escaped() {
        assert_eq!(text_array(["a", "b\"c", "d\\e"].into_iter()), Bytes::from_static(br#"{"a","b\"c","d\\e"}"#));
        assert_eq!(text_array([].into_iter()), Bytes::from_static(b"{}"));
    }
}
