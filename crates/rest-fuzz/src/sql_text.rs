//! Reads the text of a statement as PostgreSQL's lexer does, and tells what in it does not come from us.

use std::collections::HashSet;

/// The words of our own statements, and those of the schema's types, defaults and functions.
const WORDS: &str = "
    all analyze and any as asc avg body buffers by case cast coalesce concat conflict count current_setting delete desc
    distinct do else elem else end excluded exists explain false first format from full group header in inner insert
    int int8 into is join json json_agg json_array_elements json_build_object json_each_text json_object_keys
    json_strip_nulls json_to_record json_to_recordset jsonb jsonb_agg jsonb_array_elements jsonb_build_object
    jsonb_to_record jsonb_to_recordset key lateral last left length like ilike limit max min not nothing null nullif
    nulls offset on or order over page_total pgrst_body pgrst_call pgrst_rows pgrst_scalar pgrst_source
    phraseto_tsquery pk plainto_tsquery r returning row row_to_json select set set_config settings st_asgeojson
    string_agg substring sum text then to_json to_jsonb to_tsquery to_tsvector total_result_set true unknown unnest
    update value values variadic verbose wal websearch_to_tsquery when where with response_headers response_status
    response_inserted _ _postgrest_t k
    integer tsvector character varying bytea nextval regclass public color color_to_json color_from_json
    color_from_text";

/// The string literals of our own statements.
const LITERALS: [&str; 30] = [
    "'[]'",
    "'['",
    "']'",
    "'}'",
    "', '",
    "'null'",
    "''",
    "'eq.'",
    "'='",
    "'is.null'",
    "','",
    "'0'",
    "'-1'",
    "'type'",
    "'features'",
    "'FeatureCollection'",
    "'response.headers'",
    "'response.status'",
    "'pgrst.inserted'",
    "E'\\n'",
    "'projects_id_seq'",
    "'id'",
    "'name'",
    "'client_id'",
    "'data'",
    "'color'",
    "'search'",
    "'tags'",
    "'parent_id'",
    "'project_id'",
];

/// What of a statement is left when identifiers in quotes are taken out, and what it holds besides.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SqlText {
    /// The text with `""` for each quoted identifier.
    pub skeleton: String,
    /// The identifiers that were in quotes, without them.
    pub identifiers: Vec<String>,
    /// The highest number of a parameter.
    pub parameters: usize,
}

/// How an embedded array that is put together from its members begins and ends.
const ARRAY: &str = "('[' || string_agg(";
const ARRAY_END: &str = ", ', ') || ']')::json";

impl SqlText {
    /// Whether a name is longer than PostgreSQL keeps (`NAMEDATALEN` - 1 bytes).
    pub fn is_cut_off(&self) -> bool {
        self.identifiers.iter().any(|name| name.len() > 63)
    }

    /// The skeleton with each embedded array as PostgreSQL makes it, and parameters without their numbers.
    pub fn without_arrays(&self) -> String {
        let mut arrays = self.skeleton.split(ARRAY);
        let mut text = arrays.next().unwrap_or_default().to_owned();
        for array in arrays {
            text.extend(["json_agg(\"\")::jsonb", array.split_once(ARRAY_END).map_or("", |(_, rest)| rest)]);
        }
        let parts: Vec<&str> =
            text.split('$').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
        parts.join("$")
    }

    /// The skeleton with the members of each embedded array sorted: they stand in the order of their names' lengths, so
    /// other names may change it.
    pub fn without_order(&self) -> String {
        let (member, end) = ("coalesce(", "::text, 'null')");
        let mut arrays = self.skeleton.split(ARRAY);
        let mut text = arrays.next().unwrap_or_default().to_owned();
        for array in arrays {
            let (members, rest) = array.split_once(ARRAY_END).unwrap_or((array, ""));
            let mut pieces = members.split(member);
            let first = pieces.next().unwrap_or_default();
            let (mut members, between): (Vec<_>, Vec<_>) =
                pieces.map(|piece| piece.split_once(end).unwrap_or((piece, ""))).unzip();
            members.sort_unstable();
            text.extend([ARRAY, first]);
            members.iter().zip(between).for_each(|(value, behind)| text.extend([member, value, end, behind]));
            text.extend([ARRAY_END, rest]);
        }
        text
    }
}

/// The words and strings that a statement may have.
pub struct Vocabulary {
    words: HashSet<&'static str>,
    literals: HashSet<&'static str>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self { words: WORDS.split_whitespace().collect(), literals: LITERALS.into_iter().collect() }
    }
}

impl Vocabulary {
    /// Takes a statement apart.
    ///
    /// # Errors
    /// What in it is neither ours, nor a quoted identifier, nor a parameter, nor the words of a type that is cast to.
    pub fn read(&self, sql: &str) -> Result<SqlText, String> {
        let mut text = SqlText::default();
        let mut rest = sql;
        // Words behind AS that are not ours are a type when a bracket ends them.
        let mut in_cast = false;
        let mut foreign: Option<String> = None;
        while let Some(c) = rest.chars().next() {
            let token = token(rest).ok_or_else(|| format!("this is no SQL: {rest:?}"))?;
            rest = &rest[token.len()..];
            match c {
                '"' => {
                    let name = &token[1..token.len() - 1];
                    text.identifiers.push(name.replace("\"\"", "\""));
                    text.skeleton.push_str("\"\"");
                    in_cast = false;
                    continue;
                }
                '\'' if !self.literals.contains(token) => return Err(format!("a string that is not ours: {token}")),
                '$' => {
                    text.parameters = text.parameters.max(token[1..].parse().map_err(|_| "a dollar without number")?)
                }
                ')' => {
                    in_cast = false;
                    foreign = None;
                }
                c if c.is_whitespace() || matches!(c, '.' | '[' | ']') => {}
                c if is_word(c) => {
                    let word = token.to_lowercase();
                    let ours = self.words.contains(word.as_str())
                        || token.bytes().all(|b| b.is_ascii_digit())
                        || self.literals.contains(token);
                    if !ours && in_cast {
                        foreign = Some(token.to_owned());
                    } else if !ours {
                        return Err(format!("a word that is not ours: {token}"));
                    }
                    if word == "as" {
                        in_cast = true;
                    }
                }
                _ => {
                    if let Some(foreign) = foreign.take() {
                        return Err(format!("a word that is neither ours nor a type's: {foreign}"));
                    }
                    in_cast = false;
                }
            }
            text.skeleton.push_str(token);
        }
        match foreign {
            Some(foreign) => Err(format!("a word that is neither ours nor a type's: {foreign}")),
            None => Ok(text),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first token; None when a quote does not end, or something begins that we never write.
fn token(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    let (_, first) = chars.next()?;
    let end = match first {
        '"' | '\'' => quoted_end(text, first, false)?,
        'E' if text[1..].starts_with('\'') => 1 + quoted_end(&text[1..], '\'', true)?,
        '$' => {
            let digits = text[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - 1);
            // Else it would be the beginning of a string.
            if digits == 0 || text[1 + digits..].starts_with('$') {
                return None;
            }
            1 + digits
        }
        '-' if text.starts_with("--") => return None,
        '/' | ';' | '\\' | '\0' | '`' => return None,
        c if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
        c if c.is_whitespace() || c.is_ascii_punctuation() => first.len_utf8(),
        _ => return None,
    };
    // A word that goes on with a dollar is a name, or a string begins.
    if is_word(first) && text[end..].starts_with('$') {
        return None;
    }
    Some(&text[..end])
}

/// The length of a text in quotes, in which a quote is written twice.
fn quoted_end(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\0' => return None,
            '\\' if escapes => {
                chars.next();
            }
            c if c == quote => {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_arrays_stand_in_any_order() {
        let check = |a: &str, b: &str, expected: bool| {
            let text = |members: &str| SqlText {
                skeleton: format!("SELECT ('[' || string_agg({members} || '}}', ', ') || ']')::json AS \"\""),
                ..SqlText::default()
            };
            assert_eq!(text(a).without_order() == text(b).without_order(), expected, "{a}\n{b}");
        };
        let (plain, json) = ("coalesce(\"\"::text, 'null')", "coalesce(to_json(\"\")::text, 'null')");
        let two = |a: &str, b: &str| format!("$1::text || {a} || $2::text || {b}");
        check(&two(plain, json), &two(json, plain), true);
        check(&format!("concat({})", two(plain, json)), &format!("concat({})", two(json, plain)), true);
        check(&two(plain, json), &two(json, json), false);
        check(&two(plain, json), &format!("$1::text || {plain}"), false);
        check(&two(plain, json), &format!("$2::text || {plain} || $1::text || {json}"), false);
    }

    #[test]
    fn what_is_not_ours_is_found() {
        let check = |sql: &str, expected: Result<&str, &str>| match (Vocabulary::default().read(sql), expected) {
            (Ok(text), Ok(skeleton)) => assert_eq!(text.skeleton, skeleton),
            (Err(error), Err(part)) => assert!(error.contains(part), "{sql}: {error}"),
            (result, _) => panic!("{sql}: {result:?}"),
        };
        check("SELECT \"a\"\"b\".\"c\" FROM \"d\"", Ok("SELECT \"\".\"\" FROM \"\""));
        check("SELECT CAST(\"a\" AS double precision) AS \"b\"", Ok("SELECT CAST(\"\" AS double precision) AS \"\""));
        check("SELECT CAST(\"a\" AS zq, \"b\")", Err("neither ours nor a type's: zq"));
        check("SELECT CAST(\"a\" AS zq", Err("neither ours nor a type's: zq"));
        check("SELECT zq", Err("not ours: zq"));
        check("SELECT 'zq'", Err("not ours: 'zq'"));
        check("SELECT $1, $$zq$$", Err("no SQL"));
        check("SELECT a$1", Err("no SQL"));
        check("SELECT 1; SELECT 2", Err("no SQL"));
        check("SELECT 1 -- zq", Err("no SQL"));
        check("SELECT \"open", Err("no SQL"));
        check("SELECT \"a\0b\"", Err("no SQL"));
        assert_eq!(Vocabulary::default().read("SELECT $2, $11").unwrap().parameters, 11);
    }
}
