//! How large the parts of a request may be. PostgREST has no such limits; PostgreSQL has some, and fails with a server
//! error where they are passed. Each is far above what an application asks for, and low enough that the time a request
//! takes here, and in PostgreSQL's planner, stays in proportion to its length.

/// A limit, and what is said to who passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// That of other mistakes in the same part of a request.
    pub code: &'static str,
    pub message: &'static str,
    pub most: usize,
    /// What is counted.
    pub of: &'static str,
    /// How to ask for the same with less.
    pub hint: &'static str,
}

/// A query parameter cannot be read.
const QUERY: &str = "PGRST100";
/// The body cannot be read.
const BODY: &str = "PGRST102";
const MEDIA_TYPE: &str = "PGRST107";
const PREFERENCES: &str = "PGRST122";

/// To-many relationships multiply the rows with each level.
pub const EMBED_DEPTH: Limit = Limit {
    code: QUERY,
    message: "Resources are embedded too deeply in the 'select' query parameter",
    most: 16,
    of: "levels of embedded resources",
    hint: "Ask for the inner resources in a request of their own, or embed a view.",
};

/// PostgreSQL's planner takes seconds for more, when all of them are inner joins.
pub const EMBEDDINGS: Limit = Limit {
    code: QUERY,
    message: "Too many embedded resources in the 'select' query parameter",
    most: 128,
    of: "embedded resources",
    hint: "Ask for some of the resources in a request of their own, or embed a view.",
};

/// PostgreSQL gives at most 1,664 columns.
pub const SELECT_ITEMS: Limit = Limit {
    code: QUERY,
    message: "Too many items in the 'select' query parameter",
    most: 1_664,
    of: "selected items, those of embedded resources included",
    hint: "Leave out 'select', or use '*', to get all columns.",
};

/// Of one level, stars written out.
pub const SELECT_COLUMNS: Limit = Limit {
    code: QUERY,
    message: "Too many columns in the 'select' query parameter",
    most: 1_664,
    of: "columns for each resource",
    hint: "Select each column once, or fewer columns.",
};

pub const LOGIC_DEPTH: Limit = Limit {
    code: QUERY,
    message: "Logic operators are nested too deeply",
    most: 64,
    of: "levels of 'and' and 'or' within one another",
    hint: "Write conditions of one operator side by side: and(a,b,c) is and(a,and(b,c)).",
};

pub const CONDITIONS: Limit = Limit {
    code: QUERY,
    message: "Too many filters",
    most: 5_000,
    of: "filters and logic operators",
    hint: "Compare a column with many values by one filter, column=in.(...), or call a function with POST.",
};

pub const LIST_VALUES: Limit = Limit {
    code: QUERY,
    message: "Too many values in an 'in' list",
    most: 10_000,
    of: "values in one list",
    hint: "Split the list over several requests, or call a function with POST.",
};

pub const JSON_PATH: Limit = Limit {
    code: QUERY,
    message: "A JSON path is too long",
    most: 250,
    of: "arrows in one JSON path",
    hint: "Select a shorter path and go on in what it gives.",
};

/// PostgreSQL sorts by at most 1,664 expressions, and takes long with as many.
pub const ORDER_TERMS: Limit = Limit {
    code: QUERY,
    message: "Too many terms in the 'order' query parameter",
    most: 500,
    of: "order terms",
    hint: "Order by fewer columns: those behind a unique one change nothing.",
};

/// The protocol counts parameters in 16 bits.
pub const PARAMETERS: Limit = Limit {
    code: QUERY,
    message: "Too many values in the request",
    most: 65_535,
    of: "values",
    hint: "Split the request, or call a function with POST.",
};

/// PostgreSQL reads JSON and search queries recursively. Its stack of 2 MB is enough for between 5,000 and 10,000 levels
/// when nothing else is on it.
pub const VALUE_DEPTH: Limit = Limit {
    code: QUERY,
    message: "A value is nested too deeply",
    most: 2_000,
    of: "brackets within one another",
    hint: "Compare with a value that is nested less.",
};

/// As [`VALUE_DEPTH`].
pub const JSON_DEPTH: Limit = Limit {
    code: BODY,
    message: "The JSON in the request is nested too deeply",
    most: 2_000,
    of: "arrays and objects within one another",
    hint: "Send a flatter document, or send it as a string.",
};

/// A CSV row is sent on as a JSON object, which repeats the names of the header.
pub const CSV_GROWTH: Limit = Limit {
    code: BODY,
    message: "The names in the CSV header are too long for so many rows",
    most: 16,
    of: "bytes of JSON for each byte of CSV",
    hint: "Send the rows in several requests, or as JSON with the 'columns' query parameter.",
};

pub const PREFERENCES_GIVEN: Limit = Limit {
    code: PREFERENCES,
    message: "Too many preferences in the Prefer header",
    most: 100,
    of: "preferences",
    hint: "Give each preference once.",
};

pub const MEDIA_TYPES: Limit = Limit {
    code: MEDIA_TYPE,
    message: "Too many media types in the Accept header",
    most: 100,
    of: "media types",
    hint: "Name only the media types that can be made use of.",
};

impl Limit {
    /// Fails when there is more than the limit allows.
    pub(crate) fn check(self, count: usize) -> Result<(), crate::error::Error> {
        if count > self.most { Err(crate::error::Error::Limit(self)) } else { Ok(()) }
    }

    pub(crate) fn details(self) -> String {
        format!("A request can have at most {} {}.", self.most, self.of)
    }
}

/// Whether arrays and objects of a JSON text are nested deeper than `most`. What is no JSON gets an answer as well, which
/// does not matter: PostgreSQL stops reading it before it gets deep.
pub(crate) fn json_deeper_than(text: &[u8], most: usize) -> bool {
    // Each level takes a byte.
    if text.len() <= most {
        return false;
    }
    let mut depth = 0_usize;
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            rest.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

/// Whether a value that may be JSON is nested too deeply for PostgreSQL to read.
pub(crate) fn check_value_depth(value: &str) -> Result<(), crate::error::Error> {
    let most = VALUE_DEPTH.most;
    if value.len() > most && value.trim_start().starts_with(['[', '{']) && json_deeper_than(value.as_bytes(), most) {
        return Err(crate::error::Error::Limit(VALUE_DEPTH));
    }
    Ok(())
}

/// As [`check_value_depth`] for a text search query, which has brackets and `!`.
pub(crate) fn check_search_depth(query: &str) -> Result<(), crate::error::Error> {
    let most = VALUE_DEPTH.most;
    if query.len() > most {
        let mut depth = 0_usize;
        for byte in query.bytes() {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            VALUE_DEPTH.check(depth)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_as_deep_as_its_brackets_outside_of_strings() {
        let check = |text: &str, most: usize, deeper: bool| {
            assert_eq!(json_deeper_than(text.as_bytes(), most), deeper, "{text}");
        };
        check("[[1]]", 2, false);
        check("[[1]]", 1, true);
        check(r#"[{"a":[]}]"#, 2, true);
        check("[1],[1],[1]", 1, false);
        check(r#"["[[[[\"[[["]"#, 1, false);
        check(r#"["\\",[[]]]"#, 2, true);
        check("]]]][", 1, false);
        check(r#"["open[[[["#, 1, false);
    }
}
