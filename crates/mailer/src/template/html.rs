//! Where in HTML a value stands: between tags, in an attribute, in a URL. It decides how the value is escaped, as Go's
//! `html/template` does.

/// Attributes whose value is a URL.
const URL_ATTRIBUTES: [&str; 8] = ["href", "src", "action", "formaction", "background", "poster", "cite", "xlink:href"];

/// How a value has to be escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// Between tags, and inside quotes.
    Text,
    /// Inside a tag without quotes: white space would end the value.
    Unquoted,
    /// The beginning of a URL: its scheme is looked at.
    Url { quoted: bool },
    /// Behind `?` or `#` of a URL: everything but unreserved characters is percent-encoded.
    Query,
}

impl Escape {
    /// The function of the template that does it.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Text => "esc",
            Self::Unquoted => "esc_unquoted",
            Self::Url { quoted: true } => "esc_url",
            Self::Url { quoted: false } => "esc_url_unquoted",
            Self::Query => "esc_query",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// In a tag, where attributes' names may stand.
    Tag,
    /// Behind a name and `=`.
    BeforeValue,
    /// In a value; the quote it ends with.
    Value(Option<char>),
}

/// Follows the texts of a template.
pub(super) struct Place {
    state: State,
    /// The name of the attribute whose value is read.
    name: String,
    /// Whether the value so far is empty, and whether it has had `?` or `#`.
    value_empty: bool,
    in_query: bool,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { state: State::Text, name: String::new(), value_empty: true, in_query: false }
    }

    /// Goes on through a text.
    pub(super) fn pass_text(&mut self, text: &str) {
        for c in text.chars() {
            self.pass(c);
        }
    }

    fn pass(&mut self, c: char) {
        match self.state {
            State::Text => {
                if c == '<' {
                    self.state = State::Tag;
                    self.name.clear();
                }
            }
            State::Tag => match c {
                '>' => self.state = State::Text,
                '=' => self.begin_value(),
                c if c.is_whitespace() => self.name.clear(),
                c => {
                    // Longer names are of no interest.
                    if self.name.len() < 32 {
                        self.name.push(c.to_ascii_lowercase());
                    }
                }
            },
            State::BeforeValue => match c {
                '"' | '\'' => self.state = State::Value(Some(c)),
                '>' => self.state = State::Text,
                c if c.is_whitespace() => {}
                c => {
                    self.state = State::Value(None);
                    self.pass_value(c);
                }
            },
            State::Value(Some(quote)) if c == quote => self.end_value(State::Tag),
            State::Value(None) if c.is_whitespace() => self.end_value(State::Tag),
            State::Value(None) if c == '>' => self.end_value(State::Text),
            State::Value(_) => self.pass_value(c),
        }
    }

    fn begin_value(&mut self) {
        self.state = State::BeforeValue;
        self.value_empty = true;
        self.in_query = false;
    }

    fn pass_value(&mut self, c: char) {
        self.value_empty = self.value_empty && c.is_whitespace();
        self.in_query |= matches!(c, '?' | '#');
    }

    fn end_value(&mut self, state: State) {
        self.state = state;
        self.name.clear();
    }

    /// How a value that stands here is escaped; it is behind it afterwards.
    pub(super) fn pass_value_of_action(&mut self) -> Escape {
        let is_url = URL_ATTRIBUTES.contains(&self.name.as_str());
        let empty = self.value_empty;
        let quoted = match self.state {
            State::Text => return Escape::Text,
            State::Tag => return Escape::Unquoted,
            State::BeforeValue => {
                self.state = State::Value(None);
                false
            }
            State::Value(quote) => quote.is_some(),
        };
        self.value_empty = false;
        match (is_url, empty, self.in_query) {
            (true, true, _) => Escape::Url { quoted },
            (true, false, true) => Escape::Query,
            _ if quoted => Escape::Text,
            _ => Escape::Unquoted,
        }
    }
}
