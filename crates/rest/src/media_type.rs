//! Media types of requests and answers (PostgREST `MediaType`), and the `Accept` header.

use std::borrow::Cow;

use http::HeaderValue;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    ApplicationJson,
    GeoJson,
    TextCsv,
    TextPlain,
    TextXml,
    OpenApi,
    UrlEncoded,
    OctetStream,
    /// `*/*`
    Any,
    /// Anything else, as it was written.
    Other(Box<str>),
    /// `application/vnd.pgrst.array+json;nulls=stripped`; without the parameter the type is [`Self::ApplicationJson`].
    VndArrayJsonStrip,
    /// `application/vnd.pgrst.object+json`
    VndSingularJson {
        nulls_stripped: bool,
    },
    /// `application/vnd.pgrst.plan`: the execution plan of what would be answered as `media_type`.
    VndPlan {
        media_type: Box<MediaType>,
        format: PlanFormat,
        options: PlanOptions,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanFormat {
    Json,
    Text,
}

/// Options of EXPLAIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlanOptions {
    pub analyze: bool,
    pub verbose: bool,
    pub settings: bool,
    pub buffers: bool,
    pub wal: bool,
}

impl PlanOptions {
    /// The chosen options' names in the order they are printed.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.analyze, "analyze"),
            (self.verbose, "verbose"),
            (self.settings, "settings"),
            (self.buffers, "buffers"),
            (self.wal, "wal"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
    }

    fn parse(text: &str) -> Self {
        let has = |name: &str| text.split('|').any(|option| option == name);
        Self {
            analyze: has("analyze"),
            verbose: has("verbose"),
            settings: has("settings"),
            buffers: has("buffers"),
            wal: has("wal"),
        }
    }
}

impl MediaType {
    /// Reads one media type with its parameters. Names are case-insensitive; what is not known is [`Self::Other`].
    pub fn parse(text: &str) -> Self {
        // What nearly every request sends needs no tokenizing.
        match text {
            "application/json" => return Self::ApplicationJson,
            "*/*" => return Self::Any,
            _ => {}
        }
        let Some(tokens) = Tokens::parse(text) else { return Self::Other(text.into()) };
        let nulls_stripped = || tokens.parameter("nulls") == Some("stripped");
        let plan = |format| Self::VndPlan {
            media_type: Box::new(tokens.parameter("for").map_or(Self::ApplicationJson, Self::parse)),
            format,
            options: PlanOptions::parse(tokens.parameter("options").unwrap_or("")),
        };
        let main = tokens.main.to_ascii_lowercase();
        let sub = tokens.sub.to_ascii_lowercase();
        match (main.as_str(), sub.as_str()) {
            ("application", "json") => Self::ApplicationJson,
            ("application", "geo+json") => Self::GeoJson,
            ("text", "csv") => Self::TextCsv,
            ("text", "plain") => Self::TextPlain,
            ("text", "xml") => Self::TextXml,
            ("application", "openapi+json") => Self::OpenApi,
            ("application", "x-www-form-urlencoded") => Self::UrlEncoded,
            ("application", "octet-stream") => Self::OctetStream,
            ("application", "vnd.pgrst.plan" | "vnd.pgrst.plan+text") => plan(PlanFormat::Text),
            ("application", "vnd.pgrst.plan+json") => plan(PlanFormat::Json),
            ("application", "vnd.pgrst.object" | "vnd.pgrst.object+json") => {
                Self::VndSingularJson { nulls_stripped: nulls_stripped() }
            }
            ("application", "vnd.pgrst.array" | "vnd.pgrst.array+json") => {
                if nulls_stripped() {
                    Self::VndArrayJsonStrip
                } else {
                    Self::ApplicationJson
                }
            }
            ("*", "*") => Self::Any,
            _ => Self::Other(text.into()),
        }
    }

    /// The media type as it is printed, without charset.
    pub fn mime(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::ApplicationJson => "application/json",
            Self::GeoJson => "application/geo+json",
            Self::TextCsv => "text/csv",
            Self::TextPlain => "text/plain",
            Self::TextXml => "text/xml",
            Self::OpenApi => "application/openapi+json",
            Self::UrlEncoded => "application/x-www-form-urlencoded",
            Self::OctetStream => "application/octet-stream",
            Self::Any => "*/*",
            Self::Other(text) => text,
            Self::VndArrayJsonStrip => "application/vnd.pgrst.array+json;nulls=stripped",
            Self::VndSingularJson { nulls_stripped: true } => "application/vnd.pgrst.object+json;nulls=stripped",
            Self::VndSingularJson { nulls_stripped: false } => "application/vnd.pgrst.object+json",
            Self::VndPlan { media_type, format, options } => {
                let format = match format {
                    PlanFormat::Json => "json",
                    PlanFormat::Text => "text",
                };
                let mut text = format!("application/vnd.pgrst.plan+{format}; for=\"{}\"", media_type.mime());
                for (i, name) in options.names().enumerate() {
                    text.push_str(if i == 0 { "; options=" } else { "|" });
                    text.push_str(name);
                }
                return Cow::Owned(text);
            }
        })
    }

    /// The value of `Content-Type`. Binary data and types that are not ours get no charset.
    pub fn content_type(&self) -> HeaderValue {
        match self {
            Self::ApplicationJson => HeaderValue::from_static("application/json; charset=utf-8"),
            Self::VndSingularJson { nulls_stripped: false } => {
                HeaderValue::from_static("application/vnd.pgrst.object+json; charset=utf-8")
            }
            Self::OctetStream => HeaderValue::from_static("application/octet-stream"),
            Self::Other(text) => {
                HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
            }
            _ => HeaderValue::try_from(format!("{}; charset=utf-8", self.mime()))
                .unwrap_or(HeaderValue::from_static("application/octet-stream")),
        }
    }
}

/// The types of an `Accept` header, most wanted first: by quality, then by specificity (parameters count for, stars
/// against), then as written. Nothing is dropped, not even `q=0`, as PostgREST does.
pub fn parse_accept(value: &str) -> Vec<MediaType> {
    if !value.contains([',', ';', ' ']) {
        return vec![MediaType::parse(value)];
    }
    let mut weighed: Vec<(f64, isize, String)> = value
        .split(',')
        .map(|part| {
            let mut text = part.replace(' ', "");
            let mut quality = 1.0;
            if let Some(at) = text.find(";q=") {
                let rest = &text[at + 3..];
                quality = parse_quality(rest.split(';').next().unwrap_or(rest));
                text.truncate(at);
            }
            let count = |c: u8| isize::try_from(text.bytes().filter(|b| *b == c).count()).unwrap_or(isize::MAX);
            let specificity = count(b';') - count(b'*');
            (quality, specificity, text)
        })
        .collect();
    weighed.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    weighed.into_iter().map(|(_, _, text)| MediaType::parse(&text)).collect()
}

/// A quality that cannot be read counts as 1.
fn parse_quality(text: &str) -> f64 {
    let digits = text.bytes().next().is_some_and(|b| b.is_ascii_digit());
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    if digits { number.parse().unwrap_or(1.0) } else { 1.0 }
}

/// `main/sub; name=value; name="value"`; what follows the last parameter that can be read is ignored.
struct Tokens<'a> {
    main: &'a str,
    sub: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Tokens<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (main, rest) = span(text, |c| c.is_alphanumeric() || matches!(c, '.' | '*'));
        let rest = rest.strip_prefix('/')?;
        let (sub, mut rest) = span(rest, |c| c.is_alphanumeric() || matches!(c, '.' | '*' | '+' | '-'));
        if main.is_empty() || sub.is_empty() {
            return None;
        }
        let mut parameters = Vec::new();
        while let Some((name, value, after)) = parameter(rest) {
            parameters.push((name, value));
            rest = after;
        }
        Some(Self { main, sub, parameters })
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rfind(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start().strip_prefix(';')?.trim_start();
    let (name, text) = span(text, |c| c.is_alphanumeric() || c == '-');
    let text = text.trim_start().strip_prefix('=')?.trim_start();
    let (value, text) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => span(text, |c| c.is_alphanumeric() || matches!(c, '|' | '-')),
    };
    (!name.is_empty()).then_some((name, value, text))
}

fn span(text: &str, accepts: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !accepts(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_and_printed() {
        let check = |text: &str, printed: &str| assert_eq!(MediaType::parse(text).mime(), printed, "{text}");
        check("application/json", "application/json");
        check("Application/JSON; charset=utf-8", "application/json");
        check("application/vnd.pgrst.array+json", "application/json");
        check("application/vnd.pgrst.array+json;nulls=stripped", "application/vnd.pgrst.array+json;nulls=stripped");
        check("application/vnd.pgrst.array;nulls=stripped", "application/vnd.pgrst.array+json;nulls=stripped");
        check("ApplicatIon/vnd.PgRsT.object+json", "application/vnd.pgrst.object+json");
        check("application/vnd.pgrst.object; Nulls = stripped", "application/vnd.pgrst.object+json;nulls=stripped");
        check("application/vnd.pgrst.plan;", "application/vnd.pgrst.plan+text; for=\"application/json\"");
        check(
            "application/vnd.pgrst.plan+json ; for=\"text/xml\" ; options=wal|analyze|none",
            "application/vnd.pgrst.plan+json; for=\"text/xml\"; options=analyze|wal",
        );
        check(
            "application/vnd.pgrst.plan+text;for=\"application/vnd.pgrst.object+json;nulls=stripped\"",
            "application/vnd.pgrst.plan+text; for=\"application/vnd.pgrst.object+json;nulls=stripped\"",
        );
        check("application/vnd.twkb", "application/vnd.twkb");
        check("undefined", "undefined");
        check("", "");
        check("*/*", "*/*");
        check("text/*", "text/*");
    }

    #[test]
    fn only_text_of_ours_gets_a_charset() {
        let check = |text: &str, value: &str| assert_eq!(MediaType::parse(text).content_type(), value);
        check("application/json", "application/json; charset=utf-8");
        check("text/csv", "text/csv; charset=utf-8");
        check("application/octet-stream", "application/octet-stream");
        check("image/png", "image/png");
    }

    #[test]
    fn accept_is_ordered_by_quality_and_specificity() {
        let check = |value: &str, expected: &[&str]| {
            let types = parse_accept(value);
            let printed: Vec<Cow<'_, str>> = types.iter().map(MediaType::mime).collect();
            assert_eq!(printed, expected, "{value}");
        };
        check("text/csv", &["text/csv"]);
        check("text/csv, application/json", &["text/csv", "application/json"]);
        check("text/html;q=0.3, text/csv;q=0.5, application/json", &["application/json", "text/csv", "text/html"]);
        check("*/*, text/csv", &["text/csv", "*/*"]);
        check("text/csv;q=x, */*;q=2", &["*/*", "text/csv"]);
        check(
            "application/vnd.pgrst.object+json; nulls=stripped; q=0.9",
            &["application/vnd.pgrst.object+json;nulls=stripped"],
        );
    }
}
