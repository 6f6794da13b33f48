//! Random requests. Most are what a client could have meant, so that they reach the SQL; some of those are then damaged.

use std::fmt;

use crate::schema::{EMBEDDINGS, FUNCTIONS, RELATIONS};
use crate::text::{Texts, quoted};
use seeded::Random;

/// A request as it comes over the wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Input {
    pub method: &'static str,
    /// Path and query, percent-encoded.
    pub target: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Texts that have to come back in parameters when this becomes a statement.
    pub values: Vec<String>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, self.target)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        write!(f, "{}", self.body.escape_ascii())
    }
}

/// Two requests of the same shape with other texts in them.
pub struct Pair {
    pub first: Input,
    pub second: Input,
    /// Something was cut out of them, or put in; nothing is known of what they mean.
    pub damaged: bool,
}

/// The requests of a seed.
pub fn pair(seed: u64) -> Pair {
    let first = Generator::new(seed, seed ^ 0x0123_4567_89ab_cdef).request();
    let second = Generator::new(seed, seed ^ 0x7654_3210_fedc_ba98).request();
    let mut random = Random::new(!seed);
    let damaged = random.chance(40);
    if !damaged {
        return Pair { first, second, damaged };
    }
    Pair { first: damage(first, &mut random), second: damage(second, &mut random), damaged }
}

struct Generator {
    /// What the request looks like.
    shape: Random,
    /// What stands in it.
    texts: Texts,
    query: Vec<(String, String)>,
}

const CASTS: [&str; 8] = ["int", "text", "double precision", "jsonb", "int4range", "zqc", "text$$", " a  b "];
const AGGREGATES: [&str; 5] = ["sum", "avg", "max", "min", "count"];
const OPERATORS: [&str; 18] = [
    "eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch", "cs", "cd", "ov", "sl", "sr", "nxr",
    "nxl", "adj",
];
const QUANTIFIED: [&str; 9] = ["eq", "gte", "gt", "lte", "lt", "like", "ilike", "match", "imatch"];
const SEARCHES: [&str; 4] = ["fts", "plfts", "phfts", "wfts"];
const IS: [&str; 6] = ["null", "not_null", "true", "FALSE", "unknown", "Null"];
const PREFERENCES: [&str; 18] = [
    "resolution=merge-duplicates",
    "resolution=ignore-duplicates",
    "return=representation",
    "return=minimal",
    "return=headers-only",
    "count=exact",
    "count=planned",
    "count=estimated",
    "tx=commit",
    "tx=rollback",
    "missing=default",
    "missing=null",
    "handling=strict",
    "handling=lenient",
    "timezone=Europe/Berlin",
    "max-affected=10",
    "max-affected=-99999999999999999999",
    "zqp=\"a, b\"",
];
const MEDIA_TYPES: [&str; 16] = [
    "*/*",
    "application/json",
    "application/json; charset=utf-8",
    "application/geo+json",
    "text/csv",
    "text/plain",
    "text/xml",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "application/vnd.pgrst.object+json",
    "application/vnd.pgrst.object; nulls=stripped",
    "application/vnd.pgrst.array+json;nulls=stripped",
    "application/vnd.pgrst.plan",
    "application/vnd.pgrst.plan+json; for=\"application/vnd.pgrst.object+json\"; options=analyze|wal|zqm",
    "application/vnd.twkb",
    "zqm/zqm;a=\"b",
];
const RANGES: [&str; 8] = ["0-9", "10-", "5-2", "-3", "items=0-1", "0-9,20-29", "99999999999999999999-", "zq"];

impl Generator {
    fn new(shape: u64, texts: u64) -> Self {
        Self { shape: Random::new(shape), texts: Texts::new(texts), query: Vec::new() }
    }

    fn request(mut self) -> Input {
        let (method, path, relation) = if self.shape.chance(20) { self.call() } else { self.relation() };
        if let Some(relation) = relation {
            self.read_parameters(relation);
        }
        let headers = self.headers();
        let body = if matches!(method, "POST" | "PATCH" | "PUT") { self.body(relation) } else { Vec::new() };
        let mut target = path;
        for (i, (name, value)) in self.query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            encode(name, &mut target);
            target.push('=');
            encode(value, &mut target);
        }
        // What is not read, of a write for instance, need not come back.
        let values = if matches!(method, "GET" | "HEAD") { self.texts.values } else { Vec::new() };
        Input { method, target, headers, body, values }
    }

    fn relation(&mut self) -> (&'static str, String, Option<&'static str>) {
        let (relation, columns) = self.shape.pick(&RELATIONS);
        let method = self.shape.pick(&["GET", "GET", "GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]);
        if method == "PUT" && self.shape.chance(80) {
            let value = self.texts.value();
            self.query.push(("id".to_owned(), format!("eq.{value}")));
            return (method, format!("/{relation}"), None);
        }
        if method == "POST" && self.shape.chance(30) {
            let key = columns[self.shape.below(columns.len())];
            self.query.push(("on_conflict".to_owned(), quoted(key)));
        }
        if matches!(method, "POST" | "PATCH") && self.shape.chance(30) {
            let mut names: Vec<String> = Vec::new();
            for _ in 0..=self.shape.below(3) {
                names.push(self.column(relation));
            }
            self.query.push(("columns".to_owned(), names.join(",")));
        }
        (method, format!("/{relation}"), Some(relation))
    }

    fn call(&mut self) -> (&'static str, String, Option<&'static str>) {
        let (name, parameters) = self.shape.pick(&FUNCTIONS);
        let method = self.shape.pick(&["GET", "GET", "HEAD", "POST", "OPTIONS"]);
        if method != "POST" {
            for parameter in parameters {
                for _ in 0..=usize::from(*parameter == "numbers") {
                    let value = self.texts.value();
                    self.query.push(((*parameter).to_owned(), value));
                }
            }
        }
        let gives_rows = matches!(name, "search_projects" | "import" | "nothing");
        (method, format!("/rpc/{name}"), (gives_rows && self.shape.chance(60)).then_some("projects"))
    }

    fn read_parameters(&mut self, relation: &'static str) {
        let mut embedded = Vec::new();
        if self.shape.chance(70) {
            let select = self.select(relation, 0, &mut Vec::new(), &mut embedded);
            self.query.push(("select".to_owned(), select));
        }
        embedded.push((Vec::new(), relation));
        for _ in 0..self.shape.below(4) {
            let (path, relation) = embedded[self.shape.below(embedded.len())].clone();
            let prefix: String = path.iter().map(|name| format!("{name}.")).collect();
            match self.shape.below(8) {
                // Of two for one level only one counts.
                0 if !self.query.iter().any(|(name, _)| *name == format!("{prefix}order")) => {
                    let terms: Vec<String> = (0..=self.shape.below(3)).map(|_| self.order_term(relation)).collect();
                    self.query.push((format!("{prefix}order"), terms.join(",")));
                }
                1 => {
                    let name = self.shape.pick(&["limit", "offset"]);
                    let number = self.shape.pick(&["0", "1", "20", "-1", "99999999999999999999", "zq", ""]);
                    self.query.push((format!("{prefix}{name}"), number.to_owned()));
                }
                2 => {
                    let name = self.shape.pick(&["and", "or", "not.and", "not.or"]);
                    let tree = self.logic(relation, 0);
                    self.query.push((format!("{prefix}{name}"), format!("({tree})")));
                }
                _ => {
                    let field = self.field(relation);
                    let operation = self.operation(false);
                    self.query.push((format!("{prefix}{field}"), operation));
                }
            }
        }
    }

    /// Items of `select=`; notes what is embedded, with its path.
    fn select(
        &mut self,
        relation: &'static str,
        depth: usize,
        path: &mut Vec<String>,
        embedded: &mut Vec<(Vec<String>, &'static str)>,
    ) -> String {
        let mut items = Vec::new();
        // Two embeddings of one name make a statement that PostgreSQL refuses, and only the first counts.
        let mut taken: Vec<&str> = Vec::new();
        for _ in 0..self.shape.below(5) {
            let ways = EMBEDDINGS.iter().find(|(name, _)| *name == relation).map_or(&[][..], |(_, ways)| ways);
            if depth < 4 && !ways.is_empty() && self.shape.chance(30) {
                let (name, target) = self.shape.pick(ways);
                if taken.contains(&name) {
                    continue;
                }
                taken.push(name);
                let join = self.shape.pick(&["", "", "!inner", "!left"]);
                let (alias, own_name) = match self.shape.below(4) {
                    0 => ("...".to_owned(), name.to_owned()),
                    1 => {
                        let alias = quoted(&self.texts.name());
                        (format!("{alias}:"), alias)
                    }
                    _ => (String::new(), name.to_owned()),
                };
                path.push(own_name);
                let inner = self.select(target, depth + 1, path, embedded);
                embedded.push((path.clone(), target));
                path.pop();
                items.push(format!("{alias}{name}{join}({inner})"));
            } else {
                items.push(self.item(relation));
            }
        }
        items.join(",")
    }

    fn item(&mut self, relation: &'static str) -> String {
        if self.shape.chance(15) {
            return "*".to_owned();
        }
        let alias = match self.shape.below(6) {
            0 => format!("{}:", quoted(&self.texts.name())),
            1 => format!("{}:", self.texts.plain_name()),
            _ => String::new(),
        };
        if self.shape.chance(5) {
            return format!("{alias}count()");
        }
        let mut item = alias + &self.field(relation);
        if self.shape.chance(15) {
            item = format!("{item}::{}", self.shape.pick(&CASTS));
        }
        if self.shape.chance(15) {
            item = format!("{item}.{}()", self.shape.pick(&AGGREGATES));
            if self.shape.chance(30) {
                item = format!("{item}::{}", self.shape.pick(&CASTS));
            }
        }
        item
    }

    /// A column's name, mostly one that is there.
    fn column(&mut self, relation: &str) -> String {
        let columns = RELATIONS.iter().find(|(name, _)| *name == relation).map_or(&["id"][..], |(_, columns)| columns);
        match self.shape.below(10) {
            0 => quoted(&self.texts.name()),
            1 => self.texts.plain_name(),
            2 => quoted(self.shape.pick(columns)),
            _ => self.shape.pick(columns).to_owned(),
        }
    }

    fn field(&mut self, relation: &str) -> String {
        let mut field = self.column(relation);
        if self.shape.chance(25) {
            for _ in 0..=self.shape.below(3) {
                field.push_str(self.shape.pick(&["->", "->>"]));
                match self.shape.below(4) {
                    0 => field.push_str(self.shape.pick(&["0", "-1", "99"])),
                    1 => field.push_str(&quoted(&self.texts.value())),
                    2 => {
                        let key = self.texts.plain_value().replace(['-', ':', '.', '>', '='], "");
                        field.push_str(key.trim());
                    }
                    _ => {
                        let key = self.texts.value();
                        field.push_str(&quoted(&key));
                    }
                }
            }
        }
        field
    }

    fn order_term(&mut self, relation: &str) -> String {
        let field = self.field(relation);
        let direction = self.shape.pick(&["", ".asc", ".desc"]);
        let nulls = self.shape.pick(&["", "", ".nullsfirst", ".nullslast"]);
        format!("{field}{direction}{nulls}")
    }

    /// `operator.value`, in a logic tree with the quotes that are needed there.
    fn operation(&mut self, in_tree: bool) -> String {
        let not = if self.shape.chance(15) { "not." } else { "" };
        let operation = match self.shape.below(8) {
            0 => {
                let mut values = Vec::new();
                for _ in 0..=self.shape.below(4) {
                    values.push(if self.shape.chance(50) {
                        quoted(&self.texts.value())
                    } else {
                        self.texts.plain_value()
                    });
                }
                format!("in.({})", values.join(","))
            }
            1 => format!("is.{}", self.shape.pick(&IS)),
            2 => format!("isdistinct.{}", self.value(in_tree)),
            3 => {
                let operator = self.shape.pick(&SEARCHES);
                let language = if self.shape.chance(40) {
                    // A language is a value as well.
                    format!("({})", self.texts.value().split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(""))
                } else {
                    String::new()
                };
                format!("{operator}{language}.{}", self.value(in_tree))
            }
            4 => {
                let operator = self.shape.pick(&QUANTIFIED);
                let quantifier = self.shape.pick(&["any", "all"]);
                let value = if in_tree { self.texts.plain_value().replace(['{', '}'], "") } else { self.texts.value() };
                format!("{operator}({quantifier}).{{{value}}}")
            }
            _ => {
                let operator = self.shape.pick(&OPERATORS);
                format!("{operator}.{}", self.value(in_tree))
            }
        };
        format!("{not}{operation}")
    }

    fn value(&mut self, in_tree: bool) -> String {
        match (in_tree, self.shape.chance(50)) {
            (false, _) => self.texts.value(),
            (true, true) => quoted(&self.texts.value()),
            (true, false) => self.texts.plain_value(),
        }
    }

    fn logic(&mut self, relation: &str, depth: usize) -> String {
        let mut conditions = Vec::new();
        for _ in 0..=self.shape.below(3) {
            conditions.push(if depth < 4 && self.shape.chance(25) {
                let operator = self.shape.pick(&["and", "or", "not.and", "not.or"]);
                format!("{operator}({})", self.logic(relation, depth + 1))
            } else {
                let field = self.field(relation);
                format!("{field}.{}", self.operation(true))
            });
        }
        conditions.join(",")
    }

    fn headers(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let mut headers = Vec::new();
        if self.shape.chance(50) {
            let pieces: Vec<&str> = (0..=self.shape.below(4)).map(|_| self.shape.pick(&PREFERENCES)).collect();
            headers.push(("prefer", pieces.join(", ").into_bytes()));
        }
        if self.shape.chance(30) {
            let mut pieces = Vec::new();
            for _ in 0..=self.shape.below(3) {
                let quality = self.shape.pick(&["", "", ";q=0.5", ";q=zq", "; q=9"]);
                pieces.push(format!("{}{quality}", self.shape.pick(&MEDIA_TYPES)));
            }
            headers.push(("accept", pieces.join(", ").into_bytes()));
        }
        if self.shape.chance(10) {
            headers.push(("range", self.shape.pick(&RANGES).as_bytes().to_vec()));
        }
        if self.shape.chance(20) {
            headers.push(("content-type", self.shape.pick(&MEDIA_TYPES).as_bytes().to_vec()));
        }
        if self.shape.chance(5) {
            headers.push(("accept-profile", self.shape.pick(&["public", "zqs", ""]).as_bytes().to_vec()));
        }
        if self.shape.chance(5) {
            headers.push(("cookie", b"a=1; zq;b=\xff".to_vec()));
        }
        headers
    }

    fn body(&mut self, relation: Option<&'static str>) -> Vec<u8> {
        let columns =
            RELATIONS.iter().find(|(name, _)| Some(*name) == relation).map_or(&["a"][..], |(_, columns)| columns);
        let names: Vec<&str> = (0..=self.shape.below(3)).map(|_| self.shape.pick(columns)).collect();
        let object = |texts: &mut Texts| {
            let members: Vec<String> =
                names.iter().map(|name| format!("\"{name}\":\"{}\"", json_text(&texts.value()))).collect();
            format!("{{{}}}", members.join(","))
        };
        let text = match self.shape.below(6) {
            0 => format!("[{},{}]", object(&mut self.texts), object(&mut self.texts)),
            1 => {
                let values: Vec<String> = names.iter().map(|_| self.texts.value().replace('"', "\"\"")).collect();
                format!("{}\n\"{}\"\n", names.join(","), values.join("\",\""))
            }
            2 => {
                let mut form = String::new();
                for name in names {
                    form.push_str(if form.is_empty() { "" } else { "&" });
                    encode(name, &mut form);
                    form.push('=');
                    encode(&self.texts.value(), &mut form);
                }
                form
            }
            3 => self.shape.pick(&["", "{}", "[]", "[{}]", "[1]", "null", "{", "[{\"a\":1},{\"b\":2}]"]).to_owned(),
            _ => object(&mut self.texts),
        };
        text.into_bytes()
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Percent-encodes what cannot stand in a query.
pub(crate) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~()*,:!'$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// What the grammar gives a meaning.
const PIECES: [&str; 34] = [
    "(", ")", ",", ".", ":", "::", "!", "...", "-", "->", "->>", "*", "%22", "%5C", "%00", "%C3%A9", "%FF", "%", "+",
    "&", ";", "=", "not.", "and(", "or(", "in.(", "is.", "select=", "zqx", "%7B", "%7D", "$$", "'", "/",
];

/// Cuts pieces out of a request and puts others in.
fn damage(mut input: Input, random: &mut Random) -> Input {
    input.values.clear();
    for _ in 0..=random.below(4) {
        match random.below(10) {
            0 => input.body = damaged_bytes(&input.body, random),
            1 => {
                if let Some((_, value)) = input.headers.last_mut() {
                    *value = damaged_bytes(value, random);
                }
            }
            _ => input.target = damaged_target(&input.target, random),
        }
    }
    input
}

/// Keeps the first slash; whatever stands behind it is a target as long as its characters may stand in one.
fn damaged_target(target: &str, random: &mut Random) -> String {
    let mut bytes = target.as_bytes().to_vec();
    let at = 1 + random.below(bytes.len());
    match random.below(3) {
        0 => {
            let end = (at + 1 + random.below(6)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        1 => {
            let piece = random.pick(&PIECES).repeat(1 + random.below(3) * random.below(40));
            bytes.splice(at..at, piece.into_bytes());
        }
        _ => {
            let from = 1 + random.below(bytes.len());
            let end = (from + random.below(40)).min(bytes.len());
            let copy = bytes[from.min(end)..end].to_vec();
            bytes.splice(at..at, copy);
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "/".to_owned())
}

fn damaged_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = random.below(bytes.len() + 1);
    if random.chance(50) {
        bytes.truncate(at);
    } else {
        let piece = random.pick(&["\"", "[", "{", "}", ",", "=", "\\", "\u{e9}", ";", "zqx", " ", "0", ":"]);
        bytes.splice(at..at, piece.repeat(1 + random.below(30)).into_bytes());
    }
    bytes
}
